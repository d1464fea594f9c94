"""Compare the model's last layer with the pair table before anything is trained."""

from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.model.head_sizes import head_sizes
from epic100.training.config_heads import heads_of


def head_outputs(config: Config) -> int | None:
    """The number of outputs that the config gives the last layer; None if it names none."""
    return config.model.get("cls_head", {}).get("num_classes")


def require_head(config: Config, pairs: int, classes: tuple[int, int], table: str) -> None:
    """Refuse a last layer of the wrong size. Validation would meet it only after an epoch.

    Args:
        config: The result of `build_config`.
        pairs: Number of pairs in the pair table.
        classes: Number of verb classes and number of noun classes.
        table: Name of the pair table, for the message.

    Raises:
        EpicError: The head has another number of outputs than the pair table and its heads need.
    """
    found = head_outputs(config)
    expected = sum(head_sizes(heads_of(config), pairs, *classes).values())
    if found is not None and found != expected:
        raise EpicError(
            f"config: the head has {found} outputs (model.cls_head.num_classes), but {table} has "
            f"{pairs} pairs of verb and noun; expected {expected} outputs: take the number from "
            "the pair table, as config/x3d_s_epic_rgb_segments.py does, and set no other in "
            "`train: options:`"
        )
