"""Views of a segment: clips spread over its length, times crops; and their mean in probability."""

from collections.abc import Sequence
from typing import Any

import torch

from epic100.base.errors import EpicError


def view_pipeline(pipeline: Sequence[dict], clips: int, crops: int, index_dir: str) -> list[dict]:
    """The test pipeline with `clips` clips a segment and 1 (centre) or 3 crops of each.

    One clip is the middle of the segment; several go from its first frame to its last, evenly, and
    none leaves it. Three crops are squares of the resized short side, side by side along the long
    one.
    """
    if crops not in (1, 3):
        raise EpicError(f"predict: crops is {crops}; expected 1 (centre) or 3")
    steps, short_side = [], None
    for step in pipeline:
        step = dict(step)
        if step["type"] == "SampleFrames":
            step["num_clips"] = clips
        elif step["type"] == "OpenSegment":
            step["index_dir"] = index_dir
        elif step["type"] == "Resize":
            short_side = min(side for side in step["scale"] if side > 0)
        elif step["type"] == "DecodeSegment":
            short_side = step.get("short_side")
        elif step["type"] == "CenterCrop" and crops == 3:
            step = {"type": "ThreeCrop", "crop_size": short_side or step["crop_size"]}
        steps.append(step)
    return steps


@torch.inference_mode()
def mean_log_probs(model: Any, segments: Sequence[torch.Tensor], at_once: int) -> torch.Tensor:
    """float32 [B, P]: log of the mean, over a segment's views, of the model's probabilities.

    `segments`: B tensors of uint8 [views, C, T, H, W]. `at_once` views go through the model
    together, so that memory does not grow with the number of views.
    """
    logits = []
    for views in torch.cat(list(segments)).split(at_once):
        batch = {"inputs": list(views[:, None]), "data_samples": None}
        inputs = model.data_preprocessor(batch, False)["inputs"]  # [views, 1, C, T, H, W]
        features, _ = model.extract_feat(inputs, test_mode=True)
        logits.append(model.cls_head(features).double().log_softmax(dim=1))
    views = torch.cat(logits).reshape(len(segments), -1, logits[0].shape[1])
    mean = views.logsumexp(dim=1) - torch.tensor(float(views.shape[1])).log()
    return mean.float().cpu()
