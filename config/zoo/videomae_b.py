"""VideoMAE-B: a plain vision transformer over 16 frames of the segment, learned by masking.

The recipe is that of Something-Something V2, another data set of hands and objects.

Its numbers, their sources, and why some differ: `reference` below.
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
            init_std=2e-5,
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
    paramwise_cfg=dict(layer_decay=0.75),
    clip_grad=None,
)
auto_scale_lr = dict(base_batch_size=256)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.002, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=5,
        end=epochs,
        T_max=epochs - 5,
        eta_min_ratio=0.002,
        convert_to_iter_based=True,
    ),
]
most_at_once = 32
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400_20221013-860a3cd3.pth"

reference = dict(
    _delete_=True,
    figure=None,
    numbers={
        "MCG-NJU/VideoMAE@14ef8d8": {
            "FINETUNE.md": dict(
                optimizer="AdamW",
                rate=5e-4,
                rate_batch=256,
                batch=512,
                repeats=1,
                betas=[0.9, 0.999],
                decay=0.05,
                epochs=50,
                frames="16 over the segment",
                views=6,
                test_crop="224, 224",
                start="Something-Something V2, by masking",
            ),
            "run_class_finetuning.py": dict(
                loss="one head",
                smoothing=0.1,
                layer_decay=0.75,
                clip=None,
                warm_up=[5, 0.002],
                schedule="cosine to 0.002",
                dropout=0.0,
                drop_path=0.1,
                head_init=2e-5,
                mixing="Mixup 0.8, CutMix 1",
                augmentation="RandAugment 4 x 7, erasing 0.25",
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                last_batch="left out",
            ),
            "optim_factory.py": dict(no_decay="fewer than 2 dimensions"),
            "engine_for_finetuning.py": dict(precision="fp16"),
            "ssv2.py": dict(crop="0.08-1 of the area, 224", flip=0.0),
        },
    },
    differs=dict(
        loss="that data set has one type of class",
        batch="a batch of 64 is for one GPU; the rate is in proportion, as there",
        precision="bf16 needs no scaling of losses",
        views="three crops of a frame cut its objects less than one: `predict: crops: 3`",
        crop="LaViLa's and AVION's on EPIC-KITCHENS, whose objects are small",
        flip="that data set tells left from right, EPIC-KITCHENS does not",
        augmentation="timm does each of four changes half the time, torchvision does all",
        start="MMAction2 has the weights of Kinetics-400, by masking and then by classes",
        last_batch="no segment is left out of an epoch",
    ),
)
