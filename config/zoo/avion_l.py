"""AVION's ViT-L: patches of 14 pixels, 24 layers; the rest as avion_b.py.

Published on EPIC-100 val: verb 73.0, noun 65.4, action 54.4 (AVION's docs/MODEL_ZOO.md, whose call
is given for ViT-B alone).
"""

_base_ = ["./avion_b.py"]

model = dict(
    backbone=dict(patch_size=14, embed_dims=1024, depth=24, num_heads=16),
    cls_head=dict(head=dict(in_channels=1024)),
)
default_hooks = dict(accumulate=dict(most=4))
load_from = "weights/avion_l.pth"
