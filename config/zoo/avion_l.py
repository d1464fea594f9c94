"""AVION's ViT-L: patches of 14 pixels, 24 layers; the rest as avion_b.py, whose call is published.

Numbers: zhaoyue-zephyrus/AVION at 31b00b6, each with its file in `reference` below. On val of
EPIC-100: verb 73.0, noun 65.4, action 54.4 (docs/MODEL_ZOO.md there). Not as there: batch (512
there, 128 here): a batch of 128 is for one GPU; the rate is in proportion, as there; smaller last
batch (left out there, kept here): no segment is left out of an epoch; CutMix box (time and height
there, height and width here): a slip: timm's CutMix is for pictures, and gets clips; precision
(fp16 there, bf16 here): bf16 needs no scaling of losses.
"""

_base_ = ["./avion_b.py"]

model = dict(
    backbone=dict(patch_size=14, embed_dims=1024, depth=24, num_heads=16),
    cls_head=dict(head=dict(in_channels=1024)),
)
most_at_once = 4
load_from = "weights/avion_l.pth"

reference = dict(figure="verb 73.0, noun 65.4, action 54.4 (docs/MODEL_ZOO.md there)")
