"""TSN-R50: eight frames over the segment, each processed by itself.

There val is tested with 8 frames too; the 25 of `test_frame_count` are read for the test split.

Its numbers, their sources, and why some differ: `reference` below.
"""

_base_ = ["./base.py"]

epochs = 80

model = dict(
    type="Recognizer2D",
    backbone=dict(_delete_=True, type="ResNet", depth=50, partial_bn=True),
    cls_head=dict(
        heads="verb_noun",
        loss="mean",
        head=dict(
            _delete_=True,
            type="TSNHead",
            in_channels=2048,
            spatial_type="avg",
            consensus=dict(type="AvgConsensus", dim=1),
            dropout_ratio=0.7,
            init_std=0.001,
            average_clips="prob",
        ),
    ),
    data_preprocessor=dict(
        type="ActionDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape="NCHW",
    ),
)
sample = dict(type="SampleFrames", clip_len=1, num_clips=8, out_of_bound_opt="repeat_last")
train_pipeline = [
    {{_base_.open_segment}},
    sample,
    {{_base_.decode}},
    dict(
        type="MultiScaleCrop",
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        max_wh_scale_gap=1,
        num_fixed_crops=13,
    ),
    {{_base_.to_224}},
    {{_base_.flip}},
    {{_base_.pictures}},
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    dict(sample, test_mode=True),
    {{_base_.decode}},
    {{_base_.centre_crop}},
    {{_base_.pictures}},
    {{_base_.pack}},
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(heads="verb_noun")
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=5e-4, nesterov=False),
    paramwise_cfg=None,
    clip_grad=dict(max_norm=20),
)
auto_scale_lr = dict(base_batch_size=128)
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, milestones=[20, 40], gamma=0.1)]
most_at_once = 32
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb_20220906-2692d16c.pth"

reference = dict(
    _delete_=True,
    figure="action 27.4 with RGB alone (README.md there)",
    numbers={
        "epic-kitchens/C1-Action-Recognition-TSN-TRN-TSM@e8e1a79": {
            "configs/tsn_rgb.yaml": dict(
                optimizer="SGD",
                rate=0.01,
                rate_batch=128,
                batch=128,
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
                start="ImageNet",
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
            "src/models/tsn.py": dict(no_decay="nothing", head_init=0.001, dropout_of="each frame"),
        },
    },
    differs=dict(
        std="of the start weights; there it is equal to the mean by a slip",
        start="MMAction2's TSN learned Kinetics-400 from ImageNet's weights",
        dropout_of="MMAction2's head drops out of the mean of the frames",
    ),
)
