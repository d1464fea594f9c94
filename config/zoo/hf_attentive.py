"""A frozen encoder of Hugging Face, and attention over all of its tokens: only this is trained.

    epic100 run train.config=config/zoo/hf_attentive.py train.encoder=FOLDER

The folder's files say how many frames and pixels the encoder sees, so those below are replaced.
`train.options={model.backbone.frozen: false}` trains the encoder too; `{model.neck.blocks: 3}` has
the three blocks of self-attention that V-JEPA 2's probe has before the attention here.

Its numbers, their sources, and why some differ: `reference` below.
"""

_base_ = ["./base.py"]

epochs = 20

model = dict(
    backbone=dict(_delete_=True, type="HuggingFaceBackbone", encoder_folder=None, frozen=True),
    neck=dict(type="AttentivePooling", channels=1024, heads=16),
    cls_head=dict(
        head=dict(
            _delete_=True,
            type="TimeSformerHead",
            in_channels=1024,
            init_std=0.02,
            average_clips="prob",
        ),
    ),
    # The backbone normalises, as the processor of the encoder does.
    data_preprocessor=dict(
        _delete_=True, type="ActionDataPreprocessor", mean=None, std=None, format_shape="NCTHW"
    ),
)
train_dataloader = dict(batch_size=64, dataset=dict(pipeline={{_base_.augmented_pipeline}}))
train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=dict(enabled=False),
    optimizer=dict(_delete_=True, type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.1),
    paramwise_cfg=None,
    clip_grad=None,
)
auto_scale_lr = dict(base_batch_size=256)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=0,
        end=epochs,
        T_max=epochs,
        convert_to_iter_based=True,
    ),
]
most_at_once = 16
# The encoder has its weights from the folder, and the rest learns from nothing.
load_from = None
from_scratch = True

reference = dict(
    _delete_=True,
    figure=None,
    numbers={
        "facebookresearch/vjepa2@c2963a4": {
            "configs/eval/vitl/ssv2.yaml": dict(
                rate="0.0001 to 0.005",
                rate_batch=256,
                batch=256,
                decay="0.01 to 0.8",
                epochs=20,
                frames="2 clips of 16 x 4",
                test_crop="256, 256",
                views=6,
            ),
            "evals/video_classification_frozen/eval.py": dict(
                loss="one head",
                smoothing=0.0,
                optimizer="AdamW",
                betas=[0.9, 0.999],
                no_decay="nothing",
                clip=None,
                warm_up=None,
                schedule="cosine to 0",
                precision="fp16",
                augmentation="RandAugment 4 x 7, erasing 0.25",
                crop="0.08-1 of the area, 256",
                flip=0.0,
                last_batch="kept",
                start="the encoder",
            ),
            "src/models/attentive_pooler.py": dict(dropout=0.0, head_init="torch's"),
        },
    },
    differs=dict(
        loss="that data set has one type of class",
        rate="one of those that they try; a sweep tries others",
        decay="one of those that they try; a sweep tries others",
        batch="a batch of 64 is for one GPU; the rate is in proportion",
        precision="bf16 needs no scaling of losses",
        augmentation="timm does each of four changes half the time, torchvision does all",
        frames="over the segment; as many as the folder says",
        crop="LaViLa's and AVION's on EPIC-KITCHENS; of the size that the folder says",
        test_crop="the folder says",
        flip="that data set tells left from right, EPIC-KITCHENS does not",
        views="three crops of a frame cut its objects less than one: `predict: crops: 3`",
        head_init="that of MMAction2's head",
    ),
)
