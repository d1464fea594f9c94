"""LaViLa's TimeSformer-B: attention over time, then over space; 16 frames of the segment.

The start weights are LaViLa's of Ego4D (`epic100 adopt lavila_b --encoder`, docs/recipe.md). For
TimeSformer-L (72.0, 62.9, 51.0) set the sizes of avion_l.py.

Its numbers, their sources, and why some differ: `reference` below.
"""

_base_ = ["./timesformer.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="LavilaVisionTransformer",
        num_frames=16,
        img_size=224,
        patch_size=16,
        embed_dims=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
    ),
    data_preprocessor=dict(
        mean=[108.3272985, 116.7460125, 104.0937362],
        std=[68.5005327, 66.6321579, 70.3231631],
    ),
)
train_pipeline = [
    {{_base_.open_segment}},
    dict(type="UniformSample", clip_len=16),
    {{_base_.resized_crop}},
    {{_base_.clips}},
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    dict(type="UniformSample", clip_len=16, test_mode=True),
    {{_base_.centre_224}},
    {{_base_.clips}},
    {{_base_.pack}},
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

most_at_once = 7
load_from = "weights/lavila_b.pth"

reference = dict(
    differs=dict(
        _delete_=True,
        precision="bf16 needs no scaling of losses",
        last_batch="no segment is left out of an epoch",
        dropout_of="the three heads are one layer",
    )
)
