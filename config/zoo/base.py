"""What the models of the zoo share: frames of 224 pixels; heads and the rest as in the base.

Each model is another file of this folder. It takes 16 frames over the segment, as here, or its own
pipelines, put together from the steps that have names here. A batch goes through it in parts of at
most `most_at_once` segments, which keep at most 30 GiB for the backward pass in float32. With
MMEngine's `activation_checkpointing` a transformer keeps less, for a forward pass more.
"""

_base_ = ["../x3d_s_epic_rgb_segments.py"]

decode = dict(type="DecodeSegment", short_side=256)
# SlowFast and X3D crop like this.
random_crop = dict(
    type="DecodeSegment", short_side=(256, 320), crop="random", size=224, flip_ratio=0.5
)
# LaViLa crops like this.
resized_crop = dict(type="DecodeSegment", crop="resized", size=224, area=(0.5, 1.0), flip_ratio=0.5)
# AVION crops like this.
unflipped_crop = dict(type="DecodeSegment", crop="resized", size=224, area=(0.5, 1.0))
centre_224 = dict(type="DecodeSegment", short_side=224, crop="centre", size=224)
centre_256 = dict(type="DecodeSegment", short_side=256, crop="centre", size=256)
to_224 = dict(type="Resize", scale=(224, 224), keep_ratio=False)
flip = dict(type="Flip", flip_ratio=0.5)
# It comes after `decode`.
centre_crop = dict(type="CenterCrop", crop_size=224)
clips = dict(type="FormatShape", input_format="NCTHW")
pictures = dict(type="FormatShape", input_format="NCHW")

sample = dict(type="UniformSample", clip_len=16)
train_pipeline = [
    {{_base_.open_segment}},
    sample,
    resized_crop,
    clips,
    {{_base_.pack}},
]
test_pipeline = [
    {{_base_.open_segment}},
    dict(sample, test_mode=True),
    centre_224,
    clips,
    {{_base_.pack}},
]
# This is for recipes that have RandAugment, erasing, Mixup and CutMix; their steps and numbers are
# timm's. RandAugment of timm does each of four changes with probability a half, torchvision's does
# all.
augmented_pipeline = [
    {{_base_.open_segment}},
    sample,
    resized_crop,
    dict(
        type="TorchVisionWrapper", op="RandAugment", num_ops=2, magnitude=7, num_magnitude_bins=11
    ),
    dict(type="RandomErasing", erase_prob=0.25, mode="rand"),
    clips,
    {{_base_.pack}},
]
# The workflow sets `num_classes` to the number of pairs.
mixing = dict(type="MixClips", num_classes=0, mixup=0.8, cutmix=1.0)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# It computes in float32; each transformer's file sets bf16.
optim_wrapper = dict(type="OptimWrapper")

load_from = None
