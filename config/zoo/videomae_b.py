"""VideoMAE-B: a plain vision transformer over 16 frames of the segment, learned by masking.

Recipe: MCG-NJU/VideoMAE at 14ef8d8, FINETUNE.md for Something-Something V2, another data set of
hands and objects: AdamW 5e-4 for a batch of 256, 50 epochs, layer decay 0.75, weight decay 0.05,
label smoothing 0.1, RandAugment, erasing, Mixup and CutMix; with drop path 0.1, and the crop of
LaViLa. No figure on EPIC-100 was published with these weights alone.
"""

_base_ = ["./base.py"]

epochs = 50

model = dict(
    backbone=dict(
        _delete_=True,
        type="FusedVisionTransformer",
        img_size=224,
        patch_size=16,
        embed_dims=768,
        depth=12,
        num_heads=12,
        num_frames=16,
        drop_path_rate=0.1,
    ),
    cls_head=dict(
        head=dict(
            _delete_=True,
            type="TimeSformerHead",
            in_channels=768,
            label_smooth_eps=0.1,
            average_clips="prob",
        ),
    ),
    data_preprocessor=dict(
        type="ActionDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
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
    optimizer=dict(_delete_=True, type="AdamW", lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="LearningRateDecayOptimizerConstructor",
    paramwise_cfg=dict(_delete_=True, decay_rate=0.75, decay_type="layer_wise", num_layers=12),
    clip_grad=None,
)
auto_scale_lr = dict(base_batch_size=256)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=5,
        end=epochs,
        T_max=epochs - 5,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    accumulate=dict(type="AccumulateHook", most=32),
    recompute=dict(type="RecomputeHook", blocks="backbone.blocks", on=False),
)
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400_20221013-860a3cd3.pth"
