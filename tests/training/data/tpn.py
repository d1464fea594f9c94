"""MMAction2's TPN, narrow: its head makes a layer in its first test, its neck has another head."""

_base_ = ["../../support/small_recipe.py"]

model = dict(
    type="Recognizer3D",
    test_cfg=dict(fcn_test=True),
    backbone=dict(
        _delete_=True,
        type="ResNet3dSlowOnly",
        depth=18,
        pretrained=None,
        lateral=False,
        base_channels=8,
        out_indices=(2, 3),
        conv1_kernel=(1, 7, 7),
        inflate=(0, 0, 1, 1),
    ),
    neck=dict(
        type="TPN",
        in_channels=(32, 64),
        out_channels=32,
        spatial_modulation_cfg=dict(in_channels=(32, 64), out_channels=64),
        temporal_modulation_cfg=dict(downsample_scales=(8, 8)),
        upsample_cfg=dict(scale_factor=(1, 1, 1)),
        downsample_cfg=dict(downsample_scale=(1, 1, 1)),
        level_fusion_cfg=dict(
            in_channels=(32, 32),
            mid_channels=(32, 32),
            out_channels=2048,
            downsample_scales=((1, 1, 1), (1, 1, 1)),
        ),
        aux_head_cfg=dict(out_channels=4, loss_weight=0.5),
    ),
    cls_head=dict(
        _delete_=True,
        type="TPNHead",
        num_classes=400,
        in_channels=2048,
        spatial_type="avg",
        consensus=dict(type="AvgConsensus", dim=1),
        average_clips="prob",
    ),
)
