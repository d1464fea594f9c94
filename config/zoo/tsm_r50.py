"""TSM-R50, the official baseline: TSN with features that are shifted in time.

Recipe: as tsn_r50.py, from configs/tsm_rgb.yaml there. Published on EPIC-100 val, RGB alone: action
top-1 35.75 (that repository's README).
"""

_base_ = ["./tsn_r50.py"]

model = dict(
    backbone=dict(
        type="ResNetTSM",
        num_segments=8,
        shift_div=8,
        pretrained2d=False,  # or it loads `pretrained`, which is None; `load_from` has all weights
    ),
    cls_head=dict(head=dict(type="TSMHead", num_segments=8, is_shift=True)),
)
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb_20220831-64d69186.pth"
