"""The recipe of the tests' small trainings: a shallow X3D on 48-pixel frames."""

_base_ = ["../../config/x3d_s_epic_rgb_segments.py"]

epochs = 40

model = dict(
    backbone=dict(gamma_d=1.0),
    cls_head=dict(heads="pair", head=dict(dropout_ratio=0.0, label_smooth_eps=0.0)),
)

sample = dict(
    type="SampleFrames", clip_len=13, frame_interval=6, num_clips=1, out_of_bound_opt="repeat_last"
)
train_pipeline = [
    {{_base_.open_segment}},
    sample,
    dict(type="DecodeSegment", short_side=(48, 56)),
    dict(type="RandomCrop", size=48),
    dict(type="FormatShape", input_format="NCTHW"),
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    dict(sample, test_mode=True),
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
val_evaluator = dict(heads="pair")
test_evaluator = val_evaluator

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
