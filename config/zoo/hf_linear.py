"""A frozen encoder of Hugging Face, and linear heads on the mean of its tokens; else hf_attentive.

Numbers: facebookresearch/vjepa2 at c2963a4, each with its file in `reference` below. On val of
EPIC-100: none was published with this model alone. Not as there: loss (one head there, sum of pair,
verb, noun here): that data set has one kind of class; rate (0.0001 to 0.005 there, 0.001 here),
weight decay (0.01 to 0.8 there, 0.1 here): one of those that they try; a sweep tries others; batch
(256 there, 64 here): a batch of 64 is for one GPU; the rate is in proportion; deviation of a new
head (torch's there, 0.02 here): that of MMAction2's head; augmentation (RandAugment 4 x 7, erasing
0.25 there, RandAugment 2 x 7, erasing 0.25 here): timm does each of four changes half the time,
torchvision does all; precision (fp16 there, bf16 here): bf16 needs no scaling of losses; frames (2
clips of 16 x 4 there, 16 over the segment here): over the segment; as many as the folder says; crop
(0.08-1 of the area, 256 there, 0.5-1 of the area, 224 here): LaViLa's and AVION's on EPIC-KITCHENS;
of the size that the folder says; flips (0 there, 0.5 here): that data set tells left from right,
EPIC-KITCHENS does not; test crop (256, 256 there, 224, 224 here): the folder says; views (6 there,
1 here): three crops of a picture cut its objects less than one: `predict: crops: 3`.
"""

_base_ = ["./hf_attentive.py"]

model = dict(neck=dict(_delete_=True, type="MeanOfTokens"))
