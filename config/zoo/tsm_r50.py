"""TSM-R50, the official baseline: TSN with features that are shifted in time.

Its numbers, their sources, and why some differ: `reference` below.
"""

_base_ = ["./tsn_r50.py"]

model = dict(
    backbone=dict(
        type="ResNetTSM",
        num_segments=8,
        shift_div=8,
        # If true, it would load `pretrained`, which is None; `load_from` has all weights.
        pretrained2d=False,
    ),
    cls_head=dict(head=dict(type="TSMHead", num_segments=8, is_shift=True)),
)
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=64)
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb_20220831-64d69186.pth"

reference = dict(
    _delete_=True,
    figure="action 35.75 with RGB alone (README.md there)",
    numbers={
        "epic-kitchens/C1-Action-Recognition-TSN-TRN-TSM@e8e1a79": {
            "configs/tsm_rgb.yaml": dict(
                optimizer="SGD",
                rate=0.01,
                rate_batch=64,
                batch=64,
                momentum=0.9,
                decay=5e-4,
                epochs=80,
                schedule="steps at 20, 40 by 0.1",
                clip=20,
                dropout=0.7,
                batch_norm="first alone",
                frames="8 over the segment",
                mean=[123.675, 116.28, 103.53],
                std=[123.675, 116.28, 103.53],
                start="Kinetics-400",
            ),
            "src/systems.py": dict(
                loss="mean of verb, noun",
                smoothing=0.0,
                nesterov=False,
                warm_up=None,
                precision="fp32",
                crop="of 1, 0.875, 0.75, 0.66 of the short side, 224",
                flip=0.5,
                views=1,
                last_batch="kept",
                test_crop="256, 224",
            ),
            "src/models/tsm.py": dict(no_decay="nothing", head_init=0.001, dropout_of="each frame"),
        },
    },
    differs=dict(std="of the start weights; there it is equal to the mean by a slip"),
)
