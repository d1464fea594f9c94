"""Another backbone of MMAction2 on the demo: SlowOnly-18, everything else as in x3d_demo.py."""

_base_ = ["./x3d_demo.py"]

model = dict(
    backbone=dict(_delete_=True, type="ResNet3dSlowOnly", depth=18, pretrained=None, lateral=False),
    cls_head=dict(
        head=dict(
            _delete_=True,
            type="I3DHead",
            in_channels=512,
            spatial_type="avg",
            dropout_ratio=0.0,
            average_clips="prob",
        ),
    ),
)
