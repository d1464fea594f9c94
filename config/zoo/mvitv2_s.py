"""MViTv2-S: 16 frames over the segment.

Where MMAction2's two recipes are not the same, that of Something-Something V2, another data set of
hands and objects, says the length and the frames, and that of Kinetics-400, which has a log and
weights, says the rest. The dropout is that of its authors' code.

Its numbers, their sources, and why some differ: `reference` below.
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
            dropout_ratio=0.5,
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
    clip_grad=dict(max_norm=1),
)
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, end=30, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=30,
        end=epochs,
        T_max=epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
most_at_once = 16
load_from = "https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_20230201-23284ff3.pth"

reference = dict(
    _delete_=True,
    figure=None,
    numbers={
        "open-mmlab/mmaction2@4d6c934": {
            "configs/recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py": dict(
                optimizer="AdamW",
                rate=1.6e-3,
                rate_batch=512,
                batch=512,
                repeats=2,
                betas=[0.9, 0.999],
                decay=0.05,
                no_decay="fewer than 2 dimensions",
                clip=1,
                warm_up=[30, 0.01],
                mixing="Mixup 0.8, CutMix 1",
                augmentation="RandAugment 4 x 7, erasing 0.25",
                precision="fp32",
                mean=[114.75, 114.75, 114.75],
                std=[57.375, 57.375, 57.375],
                crop="0.08-1 of the area, 224",
                flip=0.5,
                start="nothing",
                last_batch="kept",
            ),
            "configs/recognition/mvit/mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb.py": dict(
                epochs=100,
                schedule="cosine of 100 epochs to 0.01",
                frames="16 over the segment",
                test_crop="224, 224",
                views=3,
            ),
            "configs/_base_/models/mvit_small.py": dict(
                loss="one head", smoothing=0.1, drop_path=0.2
            ),
            "mmaction/models/heads/mvit_head.py": dict(head_init=0.02),
        },
        "facebookresearch/SlowFast@287ec00": {
            "configs/Kinetics/MVITv2_S_16x4.yaml": dict(dropout=0.5),
        },
    },
    differs=dict(
        loss="that data set has one type of class",
        batch="a batch of 64 is for one GPU; the rate is in proportion, as there",
        repeats="every clip of a batch is of another segment, as there on Something-Something V2",
        precision="bf16 takes less memory and time on a GPU",
        views="three crops of a frame cut its objects less than one: `predict: crops: 3`",
        crop="LaViLa's and AVION's on EPIC-KITCHENS, whose objects are small",
        augmentation="another RandAugment, of two changes",
        start="Kinetics-400, the weights that the first file learned",
    ),
)
