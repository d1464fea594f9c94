"""What the models of the zoo share: pictures of 224 pixels, segments and heads as in the base.

Each model is a file beside this one. Steps that a pipeline is put together from have names here.
"""

_base_ = ["../x3d_s_epic_rgb_segments.py"]

decode = dict(type="DecodeSegment", short_side=256)
jitter = dict(type="DecodeSegment", short_side=(256, 320))  # of SlowFast, X3D
random_crop = dict(type="RandomCrop", size=224)
resized_crop = dict(type="RandomResizedCrop", area_range=(0.5, 1.0))  # of LaViLa, AVION
to_224 = dict(type="Resize", scale=(224, 224), keep_ratio=False)
flip = dict(type="Flip", flip_ratio=0.5)
centre_crop = dict(type="CenterCrop", crop_size=224)
clips = dict(type="FormatShape", input_format="NCTHW")
pictures = dict(type="FormatShape", input_format="NCHW")

load_from = None
