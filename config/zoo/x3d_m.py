"""X3D-M: the lab's X3D-S with 16 frames of 224 pixels.

Input: facebookresearch/SlowFast at 287ec00, configs/Kinetics/X3D_M.yaml (16 x 5 at 30 fps, short
side 256-320, crop 224, test 256). Schedule: as config/x3d_s_epic_rgb_segments.py. No figure on
EPIC-100 was published with this model alone.
"""

_base_ = ["./base.py"]

sample = dict(
    type="SampleFrames",
    num_clips=1,
    out_of_bound_opt="repeat_last",
    clip_len=16,
    frame_interval=5,
    target_fps=30,
)
train_pipeline = [
    {{_base_.open_segment}},
    sample,
    {{_base_.random_crop}},
    {{_base_.clips}},
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    dict(sample, test_mode=True),
    {{_base_.centre_256}},
    {{_base_.clips}},
    {{_base_.pack}},
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(accumulate=dict(type="AccumulateHook", most=32))
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/x3d_m_16x5x1_facebook-kinetics400-rgb_20201027-3f42382a.pth"
