"""AVION's ViT-B: a plain vision transformer over all patches of 16 frames of the segment.

Its layers have one rate each (no layer decay). The start weights are AVION's of Ego4D, which
`epic100 adopt avion_b --encoder` writes (docs/recipe.md).

Its numbers, their sources, and why some differ: `reference` below.
"""

_base_ = ["./base.py"]

epochs = 100

model = dict(
    backbone=dict(
        _delete_=True,
        type="AvionVisionTransformer",
        num_frames=16,
        img_size=224,
        patch_size=16,
        embed_dims=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
    ),
    cls_head=dict(
        heads="pair",
        head=dict(
            _delete_=True,
            type="TimeSformerHead",
            in_channels=768,
            init_std=0.01,
            dropout_ratio=0.5,
            label_smooth_eps=0.1,
            average_clips="prob",
        ),
    ),
    data_preprocessor=dict(
        type="ActionDataPreprocessor",
        mean=[108.3272985, 116.7460125, 104.0937362],
        std=[68.5005327, 66.6321579, 70.3231631],
        format_shape="NCTHW",
        blending={{_base_.mixing}},
    ),
)
train_pipeline = [
    {{_base_.open_segment}},
    {{_base_.sample}},
    {{_base_.unflipped_crop}},
    {{_base_.clips}},
    {{_base_.pack}},
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(heads="pair")
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=dict(enabled=False),
    optimizer=dict(lr=3e-3, weight_decay=4e-5, nesterov=False),
    paramwise_cfg=dict(no_decay=["cls_token", "pos_embed"]),
    clip_grad=None,
)
auto_scale_lr = dict(base_batch_size=128)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 3000, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=2,
        end=epochs,
        T_max=epochs - 2,
        eta_min_ratio=1 / 300,
        convert_to_iter_based=True,
    ),
]
most_at_once = 16
load_from = "weights/avion_b.pth"

reference = dict(
    _delete_=True,
    figure="verb 70.0, noun 59.4, action 49.5 (docs/MODEL_ZOO.md there)",
    numbers={
        "zhaoyue-zephyrus/AVION@31b00b6": {
            "scripts/main_lavila_finetune_cls.py": dict(
                loss="one head",
                smoothing=0.1,
                optimizer="SGD",
                rate=3e-3,
                rate_batch=128,
                momentum=0.9,
                nesterov=False,
                decay=4e-5,
                no_decay="fewer than 2 dimensions, cls_token, pos_embed",
                clip=None,
                epochs=100,
                warm_up=[2, 1 / 3000],
                schedule="cosine to 1 / 300",
                dropout=0.5,
                drop_path=0.1,
                mixing="Mixup 0.8, CutMix 1",
                precision="fp16",
                mean=[108.3272985, 116.7460125, 104.0937362],
                std=[68.5005327, 66.6321579, 70.3231631],
                frames="16 over the segment",
                crop="0.5-1 of the area, 224",
                flip=0.0,
                test_crop="224, 224",
                views=1,
                last_batch="left out",
            ),
            "docs/MODEL_ZOO.md": dict(batch=512, start="Ego4D"),
            "avion/models/model_clip.py": dict(head_init=0.01),
            "requirements.txt": dict(cutmix_of="time and height"),
        },
    },
    differs=dict(
        batch="a batch of 128 is for one GPU; the rate is in proportion, as there",
        precision="bf16 needs no scaling of losses",
        last_batch="no segment is left out of an epoch",
        cutmix_of="a slip: timm's CutMix is for images, and gets clips",
    ),
)
