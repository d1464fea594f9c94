"""AVION's ViT-B: a plain vision transformer over all patches of 16 frames of the segment.

Recipe: zhaoyue-zephyrus/AVION at 31b00b6, scripts/main_lavila_finetune_cls.py (its defaults) as
docs/MODEL_ZOO.md calls it: SGD 3e-3 for a batch of 128, in proportion for others (there 512), 100
epochs with a cosine from 3e-3 to 1e-5 after two of warm-up from 1e-6; weight decay 4e-5, none on
norms, biases and the embeddings of class and place; one head over pairs with dropout 0.5, label
smoothing 0.1, Mixup 0.8 and CutMix 1.0; drop path 0.1, the same in each block; resized crops of 0.5
to 1. Here also flips, and bf16 for their fp16. Its layers have one rate each (no layer decay).
Mean and standard deviation are those of that script; the first mean is not CLIP's 122.77.
Published on EPIC-100 val: verb 70.0, noun 59.4, action 49.5. The start weights are AVION's of
Ego4D, which `epic100 adopt avion_b --encoder` writes (docs/recipe.md).
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
train_dataloader = dict(batch_size=128)
val_evaluator = dict(heads="pair")
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=epochs)
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=dict(enabled=False),
    optimizer=dict(lr=3e-3, weight_decay=4e-5, nesterov=False),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,  # biases of queries and values have names of their own
        custom_keys={"backbone.cls_token": no_decay, "backbone.pos_embed": no_decay},
    ),
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
default_hooks = dict(
    accumulate=dict(type="AccumulateHook", most=16),
    recompute=dict(type="RecomputeHook", blocks="backbone.blocks", on=False),
)
load_from = "weights/avion_b.pth"
