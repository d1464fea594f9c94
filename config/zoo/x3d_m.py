"""X3D-M: the lab's X3D-S with 16 frames of 224 pixels, and its own input.

Its numbers, their sources, and why some differ: `reference` below.
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
most_at_once = 32
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/x3d_m_16x5x1_facebook-kinetics400-rgb_20201027-3f42382a.pth"

reference = dict(
    numbers={
        "facebookresearch/SlowFast@287ec00": {
            "configs/Kinetics/X3D_M.yaml": dict(
                frames="16 x 5 at 30", crop="256-320, 224", test_crop="256, 256"
            ),
        },
    },
    differs=dict(
        _delete_=True,
        loss="as the default",
        rate="as the default",
        smoothing="as the default",
        no_decay="as the default",
        clip="as the default",
        views="10 clips, as SlowFast on EPIC-KITCHENS-100; `predict: crops: 3` gives the 30",
        std="MMAction2 rounds it",
        warm_up_ends="MMEngine's schedule",
        last_batch="no segment is left out of an epoch",
    ),
)
