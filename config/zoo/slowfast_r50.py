"""SlowFast-R50 8x8: 32 frames at every second frame of 60, 1.07 s.

Recipe: epic-kitchens/epic-kitchens-slowfast at bf50519,
configs/EPIC-KITCHENS/SLOWFAST_8x8_R50.yaml: SGD 0.01 for a batch of 32, 30 epochs with steps at 20
and 25, weight decay 1e-4 and none on BatchNorm, which is frozen (statistics, scale and shift);
short side 256-320, crop 224; 10 clips of 256 in the test. Published on EPIC-100 val: verb 65.6,
noun 50.0, action 38.5 (Damen et al., Rescaling Egocentric Vision).
"""

_base_ = ["./base.py"]

epochs = 30

pathway = dict(type="resnet3d", depth=50, pretrained=None, conv1_stride_t=1, pool1_stride_t=1)
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet3dSlowFast",
        pretrained=None,
        resample_rate=4,
        speed_ratio=4,
        channel_ratio=8,
        slow_pathway=dict(
            pathway,
            lateral=True,
            conv1_kernel=(1, 7, 7),
            dilations=(1, 1, 1, 1),
            inflate=(0, 0, 1, 1),
            fusion_kernel=7,
        ),  # fmt: skip
        fast_pathway=dict(pathway, lateral=False, base_channels=8, conv1_kernel=(5, 7, 7)),
    ),
    cls_head=dict(
        head=dict(
            _delete_=True,
            type="SlowFastHead",
            in_channels=2304,
            spatial_type="avg",
            dropout_ratio=0.5,
            average_clips="prob",
        ),
    ),
    data_preprocessor=dict(
        type="ActionDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape="NCTHW",
    ),
)
sample = dict(
    type="SampleFrames",
    num_clips=1,
    out_of_bound_opt="repeat_last",
    clip_len=32,
    frame_interval=2,
    target_fps=60,
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

optim_wrapper = dict(
    optimizer=dict(weight_decay=1e-4, nesterov=False),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=1.0),
    clip_grad=None,
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type="MultiStepLR", by_epoch=True, milestones=[20, 25], gamma=0.1),
]
custom_hooks = [dict(type="SampleSeedHook"), dict(type="FrozenBatchNormHook")]  # as `bn: frozen`
default_hooks = dict(accumulate=dict(type="AccumulateHook", most=16))
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb_20220818-1cb6dfc8.pth"
