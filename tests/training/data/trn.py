"""MMAction2's TRN on four frames: a head whose last layer is not the one that others have."""

_base_ = ["../../support/small_recipe.py"]

model = dict(
    _delete_=True,
    type="Recognizer2D",
    backbone=dict(type="ResNet", depth=18),
    cls_head=dict(
        type="EpicHead",
        heads="both",
        head=dict(
            type="TRNHead",
            in_channels=512,
            num_segments=4,
            relation_type="TRNMultiScale",
            hidden_dim=16,
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
sample = dict(type="SampleFrames", clip_len=1, num_clips=4, out_of_bound_opt="repeat_last")
decode = dict(type="DecodeSegment", short_side=32, crop="centre", size=32)
pictures = dict(type="FormatShape", input_format="NCHW")
pipeline = [{{_base_.open_segment}}, sample, decode, pictures, {{_base_.pack}}]
test_pipeline = [
    {{_base_.open_segment}},
    dict(sample, test_mode=True),
    decode,
    pictures,
    {{_base_.pack}},
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
