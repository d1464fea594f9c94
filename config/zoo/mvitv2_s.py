"""MViTv2-S: 16 frames over the segment.

Recipe: MMAction2's configs/recognition/mvit/mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb.py,
which starts from Kinetics-400 on another data set of hands and objects (AdamW 1.6e-3 for a batch
of 512, 100 epochs, weight decay 0.05 and none on norms and biases, RandAugment, erasing, Mixup and
CutMix), with the crop of LaViLa. No figure on EPIC-100 was published with this model alone.
"""

_base_ = ["./base.py"]

epochs = 100

model = dict(
    backbone=dict(_delete_=True, type="MViT", arch="small", drop_path_rate=0.2),
    cls_head=dict(
        head=dict(
            _delete_=True,
            type="MViTHead",
            in_channels=768,
            label_smooth_eps=0.1,
            average_clips="prob",
        ),
    ),
    data_preprocessor=dict(
        type="ActionDataPreprocessor",
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        format_shape="NCTHW",
        blending={{_base_.mixing}},
    ),
)
train_dataloader = dict(batch_size=64, dataset=dict(pipeline={{_base_.augmented_pipeline}}))
train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=dict(enabled=False),
    optimizer=dict(_delete_=True, type="AdamW", lr=1.6e-3, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1),
)
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=10,
        end=epochs,
        T_max=epochs - 10,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    accumulate=dict(type="AccumulateHook", most=16),
    recompute=dict(type="RecomputeHook", blocks="backbone.blocks", on=False),
)
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_20230201-23284ff3.pth"
