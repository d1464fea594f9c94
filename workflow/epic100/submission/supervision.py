"""Compare the supervision levels (SLS) of a submission with how its model was trained.

Levels: Damen and Wray, Supervision Levels Scale, arXiv 2008.09890; github.com/epic-kitchens/sls.
"""

from collections.abc import Mapping
from typing import Any

# Words in a weights file's name which show that the weights were trained on videos.
VIDEO_DATA = ("kinetics", "k400", "k600", "k700", "ssv2", "sthv2", "something")


def contradictions(sls: Mapping[str, int], trained_on: Mapping[str, Any]) -> list[str]:
    """List the levels that cannot be true of the model, one sentence each.

    Args:
        sls: Levels `pt` (pretraining), `tl` (training labels) and `td` (training data).
        trained_on: As in `model_file.TrainedModel`; only `split` and `load_from` are used.
    """
    weights, split = trained_on.get("load_from"), trained_on.get("split")
    found = []
    if not weights and sls["pt"] != 0:
        found.append(f"pt is {sls['pt']}, but the model was trained from scratch: 0")
    if weights and sls["pt"] == 0:
        found.append(f"pt is 0, but training started from {weights}: 2 for Kinetics weights")
    if weights and sls["pt"] == 1 and any(word in str(weights).lower() for word in VIDEO_DATA):
        found.append(f"pt is 1 (images only), but {weights} learned from videos: 2")
    if sls["tl"] < 3:
        found.append(f"tl is {sls['tl']}, but start and end of each segment were used: 3")
    least = {"train": 3, "trainval": 4}.get(str(split))
    if least and sls["td"] != least:
        found.append(f"td is {sls['td']}, but the model was trained on {split}: {least}")
    return [f"export: sls: {sentence}" for sentence in found]
