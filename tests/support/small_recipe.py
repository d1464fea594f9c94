"""The recipe of the tests' small trainings: a shallow X3D on 48-pixel pictures."""

_base_ = ["../../config/x3d_s_epic_rgb_segments.py"]

sampling = None  # the pipelines below, as they are
heads = "pair"
epochs = 40

model = dict(
    backbone=dict(gamma_d=1.0),
    cls_head=dict(dropout_ratio=0.0, label_smooth_eps=0.0),
)

# MMEngine replaces whole lists: these are the steps of the base, at 48 pixels and without flips.
train_pipeline = [
    {{_base_.open_segment}},
    {{_base_.sample}},
    dict(type="DecodeSegment", short_side=(48, 56)),
    dict(type="RandomCrop", size=48),
    dict(type="FormatShape", input_format="NCTHW"),
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    {{_base_.sample_evenly}},
    dict(type="DecodeSegment", short_side=52),
    dict(type="CenterCrop", crop_size=48),
    dict(type="FormatShape", input_format="NCTHW"),
    {{_base_.pack}},
]

train_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=3e-3, weight_decay=0.05),
    paramwise_cfg=None,
    clip_grad=None,
)
auto_scale_lr = dict(base_batch_size=8)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=1,
        end=epochs,
        T_max=epochs - 1,
        convert_to_iter_based=True,
    ),
]
load_from = None
