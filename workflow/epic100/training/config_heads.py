"""Give the model of an MMEngine config heads for pairs, verbs and nouns: `train: heads:`."""

from typing import Any

from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.model.head_sizes import head_sizes
from epic100.segments.pairs import read_pairs
from epic100.settings import TrainSettings
from epic100.training.config_file import present

OWN_LOSSES = (None, "CrossEntropyLoss")  # a head's own, which HeadsLoss takes the place of


def heads_of(config: Config) -> str:
    """The heads of the model in the result of `build_config`, a key of `model.head_sizes.HEADS`."""
    return config.model.get("cls_head", {}).get("loss_cls", {}).get("heads", "pair")


def with_heads(
    config: Config, settings: TrainSettings, pairs: str, classes: tuple[int, int]
) -> dict[str, Any]:
    """Make the last layer wider, with a loss that smooths each head alone.

    Args:
        config: The MMEngine config.
        settings: The workflow's settings; with one head over pairs nothing changes.
        pairs: The pair table.
        classes: Number of verb classes and number of noun classes.

    Returns:
        The dotted keys of the head and of the evaluators, with their values.

    Raises:
        EpicError: The config mixes labels or has a loss of its own.
    """
    heads = settings.heads or "pair"
    if heads == "pair":
        return {}
    head, (verbs, nouns) = config.model.cls_head, classes
    if (preprocessor := config.model.get("data_preprocessor", {})).get("blending"):
        raise EpicError(
            f"train: heads is {heads!r}, but {settings.config} mixes labels "
            f"({preprocessor.blending.type}), which one head over pairs alone can learn from; set "
            "it to `pair`, or take `blending` out"
        )
    if (own := head.get("loss_cls", {}).get("type")) not in OWN_LOSSES:
        raise EpicError(
            f"train: heads is {heads!r}, but {settings.config} has a loss of its own ({own}), "
            "which is for one head over pairs; set heads to `pair`, or take `loss_cls` out"
        )
    sizes = head_sizes(heads, len(read_pairs(pairs)), verbs, nouns)
    loss = {
        "type": "HeadsLoss", "pairs": pairs, "heads": heads, "num_verbs": verbs,
        "num_nouns": nouns, "smoothing": head.get("label_smooth_eps", 0.0),
        "tau": settings.logit_adjustment,
    }  # fmt: skip
    changes: dict[str, Any] = {
        "model.cls_head.loss_cls": loss,
        "model.cls_head.num_classes": sum(sizes.values()),
        "model.cls_head.label_smooth_eps": 0.0,
    }
    for name in present(config, "val_evaluator", "test_evaluator"):
        changes[f"{name}.heads"] = heads
    return changes
