"""The lab's recipe, exactly: 13 x 6 frames at the file's own rate, one head over verb-noun pairs,
weight decay on all weights.

config/x3d_s_epic_rgb_segments.py as it was before its defaults followed the literature; see
docs/recipe.md. A crop is drawn before its picture is scaled, see docs/performance.md.
"""

_base_ = ["./x3d_s_epic_rgb_segments.py"]

sampling = "dense"
heads = "pair"
optim_wrapper = dict(paramwise_cfg=None)
