"""The lab's frames and head: 13 x 6 frames at the file's own rate, one head over verb-noun pairs,
weight decay on all weights. Epochs and schedule are the default's.

13 x 6 frames are 1.3 s at 59.94 fps. Why the default differs: docs/recipe.md. A crop is drawn
before its picture is scaled, see docs/model.md.
"""

_base_ = ["./x3d_s_epic_rgb_segments.py"]

model = dict(cls_head=dict(heads="pair"))

dense = dict(
    type="SampleFrames",
    clip_len=13,
    # With `target_fps=60` it would count at 60 frames a second, whatever the rate of a file.
    frame_interval=6,
    num_clips=1,
    # Short segments repeat their last frame, and never go outside.
    out_of_bound_opt="repeat_last",
)
train_pipeline = [
    {{_base_.open_segment}},
    dense,
    dict(type="DecodeSegment", short_side=(182, 228), crop="random", size=160, flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCTHW"),
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    dict(dense, test_mode=True),
    dict(type="DecodeSegment", short_side=182, crop="centre", size=182),
    dict(type="FormatShape", input_format="NCTHW"),
    {{_base_.pack}},
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(heads="pair")
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg=None)
