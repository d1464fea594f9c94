"""TSN-R50: eight frames over the segment, each processed by itself.

Recipe: epic-kitchens/C1-Action-Recognition-TSN-TRN-TSM at e8e1a79, configs/tsn_rgb.yaml: SGD 0.01
for a batch of 64, 80 epochs with steps at 20 and 40, weight decay 5e-4, dropout 0.7, partial
BatchNorm, multi-scale crops, 8 frames over the segment. Published on EPIC-100 val, RGB alone:
action top-1 27.4 (that repository's README). There mean and standard deviation are both ImageNet's
mean, by mistake; here they are those of the start weights.
"""

_base_ = ["./base.py"]

epochs = 80

model = dict(
    type="Recognizer2D",
    backbone=dict(_delete_=True, type="ResNet", depth=50, partial_bn=True),
    cls_head=dict(
        head=dict(
            _delete_=True,
            type="TSNHead",
            in_channels=2048,
            spatial_type="avg",
            consensus=dict(type="AvgConsensus", dim=1),
            dropout_ratio=0.7,
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
    dict(type="MultiScaleCrop", input_size=224, scales=(1, 0.875, 0.75, 0.66), max_wh_scale_gap=1),
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
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=5e-4, nesterov=False),
    paramwise_cfg=None,
    clip_grad=dict(max_norm=20),
)
auto_scale_lr = dict(base_batch_size=64)
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, milestones=[20, 40], gamma=0.1)]
default_hooks = dict(accumulate=dict(type="AccumulateHook", most=32))
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb_20220906-2692d16c.pth"
