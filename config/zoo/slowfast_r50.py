"""SlowFast-R50 8x8: 32 frames at every second frame of 60, 1.07 s.

BatchNorm is frozen: statistics, scale and shift.

Its numbers, their sources, and why some differ: `reference` below.
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
        ),
        fast_pathway=dict(pathway, lateral=False, base_channels=8, conv1_kernel=(5, 7, 7)),
    ),
    cls_head=dict(
        heads="verb_noun",
        loss="mean",
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
val_evaluator = dict(heads="verb_noun")
test_evaluator = val_evaluator

# Everything that is learned decays. BatchNorm would not, but it is frozen.
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=1e-4, nesterov=True), paramwise_cfg=None, clip_grad=None
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type="MultiStepLR", by_epoch=True, milestones=[20, 25], gamma=0.1),
]
# With `bn: frozen` the workflow adds the same hook.
custom_hooks = [dict(type="SampleSeedHook"), dict(type="FrozenBatchNormHook")]
most_at_once = 16
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb_20220818-1cb6dfc8.pth"

reference = dict(
    _delete_=True,
    figure="verb 65.6, noun 50.0, action 38.5 (Damen et al., Rescaling Egocentric Vision, table 3)",
    numbers={
        "epic-kitchens/epic-kitchens-slowfast@bf50519": {
            "configs/EPIC-KITCHENS/SLOWFAST_8x8_R50.yaml": dict(
                optimizer="SGD",
                rate=0.01,
                rate_batch=32,
                batch=32,
                momentum=0.9,
                decay=1e-4,
                epochs=30,
                warm_up=[1, 0.1],
                schedule="steps at 20, 25 by 0.1",
                dropout=0.5,
                batch_norm="frozen",
                crop="256-320, 224",
                test_crop="256, 256",
            ),
            "slowfast/config/defaults.py": dict(
                nesterov=True,
                clip=None,
                head_init=0.01,
                mean=[114.75, 114.75, 114.75],
                std=[57.375, 57.375, 57.375],
                views=10,
            ),
            "tools/train_net.py": dict(loss="mean of verb, noun", smoothing=0.0, precision="fp32"),
            "slowfast/models/optimizer.py": dict(no_decay="nothing"),
            "slowfast/utils/lr_policy.py": dict(warm_up_ends="a step later"),
            "slowfast/datasets/frame_loader.py": dict(frames="32 x 2 at 60"),
            "slowfast/datasets/epickitchens.py": dict(flip=0.5),
            "slowfast/datasets/loader.py": dict(last_batch="left out"),
            "README.md": dict(start="Kinetics-400"),
        },
    },
    differs=dict(
        mean="of the start weights, MMAction2's",
        std="of the start weights, MMAction2's",
        warm_up_ends="MMEngine's schedule",
        last_batch="no segment is left out of an epoch",
    ),
)
