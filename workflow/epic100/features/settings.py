"""The `features:` section of the config."""

from dataclasses import dataclass

from epic100.base.errors import EpicError
from epic100.timeline.settings import LEAST_STRIDE, MOST_SECONDS

START = "start"  # the start weights of `train:`, without a training


@dataclass(frozen=True)
class FeatureSettings:
    """What gives the features, and where the clips are.

    Args:
        encoder: "model", "start" (the start weights of `train:`), or `module:Class` of the user's.
        stride: Seconds from one clip to the next.
        window: Length of a clip in seconds; None: `timeline.settings.clip_frames`.

    Raises:
        EpicError: A value is out of its range.
    """

    encoder: str = "model"
    stride: float = 0.5
    window: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("stride", self.stride), ("window", self.window)):
            if value is not None and not LEAST_STRIDE <= value <= MOST_SECONDS:
                raise EpicError(
                    f"features: {name} is {value:g}; expected a number from {LEAST_STRIDE:g} to "
                    f"{MOST_SECONDS:g}"
                )
