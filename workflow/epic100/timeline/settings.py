"""The `timeline:` section of the config, and the length of a clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epic100.base.errors import EpicError
from epic100.prediction.views import sampling_of

SPREAD_SECONDS = 2.0  # of a model whose frames cover a segment: EPIC's median is 1.85 s
LEAST_STRIDE, MOST_SECONDS = 0.01, 3600.0


@dataclass(frozen=True)
class TimelineSettings:
    """How clips are placed and merged (`merging.merge`).

    Args:
        stride: Seconds from one clip to the next.
        window: Length of a clip in seconds; None: `clip_frames`.
        smooth: Seconds over which probabilities are averaged; 0: not at all.
        threshold: Least mean probability of a segment's pair, 0 to 1.
        min_seconds: Length of the shortest segment.

    Raises:
        EpicError: A value is out of its range.
    """

    stride: float = 0.5
    window: float | None = None
    smooth: float = 1.0
    threshold: float = 0.2
    min_seconds: float = 0.8

    def __post_init__(self) -> None:
        window = LEAST_STRIDE if self.window is None else self.window
        for name, value, least, most in (
            ("stride", self.stride, LEAST_STRIDE, MOST_SECONDS),
            ("window", window, LEAST_STRIDE, MOST_SECONDS),
            ("smooth", self.smooth, 0, MOST_SECONDS),
            ("threshold", self.threshold, 0, 1),
            ("min_seconds", self.min_seconds, 0, MOST_SECONDS),
        ):
            if not least <= value <= most:
                raise EpicError(
                    f"timeline: {name} is {value:g}; expected a number from {least:g} to {most:g}"
                )


def clip_frames(pipeline: Sequence[Mapping[str, Any]], fps: float, window: float | None) -> int:
    """How many frames of the file a clip spans.

    Args:
        pipeline: The model's test pipeline.
        fps: Frames per second of the file.
        window: Seconds. None: what a dense clip spans (frames x interval, at the model's rate if
            it has one), or 2 s for models whose frames cover a segment.
    """
    for step in pipeline if window is None else ():
        if step["type"] == "SampleFrames" and sampling_of(pipeline) == "dense":
            rate = step.get("target_fps")
            span = step["clip_len"] * step.get("frame_interval", 1)
            return max(1, round(span * (fps / rate if rate else 1)))
    return max(1, round((SPREAD_SECONDS if window is None else window) * fps))
