"""The `browse:` section of the config."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from epic100.base.errors import EpicError


@dataclass(frozen=True)
class BrowseSettings:
    """What the page holds.

    Args:
        splits: Splits whose segments are listed. Only val has predictions and clips.
        max_mb: Most megabytes (of 10^6 bytes) of clips.

    Raises:
        EpicError: `max_mb` is negative, or val is not among the splits.
    """

    splits: Sequence[str] = field(default_factory=lambda: ["val"])
    max_mb: int = 500

    def __post_init__(self) -> None:
        if self.max_mb < 0:
            raise EpicError(f"browse: max_mb is {self.max_mb}; expected a number from 0 on")
        if "val" not in self.splits:
            raise EpicError(
                f"browse: splits are {list(self.splits)}; expected val among them, since the "
                "predictions are of val"
            )
