"""The demo's model: a shallow, narrow X3D on 32-pixel pictures, trained in a minute on two cores.

The kitchen's motions take half a second, so 13 frames three apart show one. Pictures, depth, width
and steps are what three seeds need to read nine of ten actions (tests/behaviour/test_results.py).
"""

_base_ = ["./x3d_s_epic_rgb_segments.py"]

epochs = 30

model = dict(
    backbone=dict(gamma_d=1.0, gamma_b=1.0),
    cls_head=dict(head=dict(in_channels=192, dropout_ratio=0.0, label_smooth_eps=0.0)),
)

# MMEngine replaces whole lists: these are the steps of the base, at 32 pixels.
sample = dict(
    type="SampleFrames", clip_len=13, frame_interval=3, num_clips=1, out_of_bound_opt="repeat_last"
)
train_pipeline = [
    {{_base_.open_segment}},
    sample,
    dict(type="DecodeSegment", short_side=(32, 40), flip_ratio=0.5),
    dict(type="RandomCrop", size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    dict(sample, test_mode=True),
    dict(type="DecodeSegment", short_side=35),
    dict(type="CenterCrop", crop_size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    {{_base_.pack}},
]

train_dataloader = dict(
    batch_size=16, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=5e-3, weight_decay=0.05),
    paramwise_cfg=None,
    clip_grad=None,
)
auto_scale_lr = dict(base_batch_size=16)
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
# The workflow reads this: the schedule is for random weights.
from_scratch = True
