"""A frozen encoder of Hugging Face, and linear heads on the mean of its tokens; else hf_attentive.

Its numbers, their sources, and why some differ: `reference` below.
"""

_base_ = ["./hf_attentive.py"]

model = dict(neck=dict(_delete_=True, type="MeanOfTokens"))
