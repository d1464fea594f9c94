"""Counts clips that fail to decode although the scan passed them, over all loader processes."""

import logging
from collections.abc import Callable

import torch

from epic100.base.errors import EpicError

log = logging.getLogger(__name__)

FEW = 10  # so many broken clips never stop a run, unless `max_share` is 0
SHOWN = 20  # ids in the error


class BrokenClips:
    """Counts of drawn and broken clips, shared with loader workers. Stops the run at too many.

    Args:
        segments: Number of segments.
        max_share: Share of drawn clips that may be broken, 0 to 1. At 0, the first one is an error.
    """

    def __init__(self, segments: int, max_share: float):
        self.max_share = max_share
        # Workers add without a lock: losing a count now and then does not matter.
        self._drawn = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._broken = torch.zeros(segments, dtype=torch.int32).share_memory_()

    @property
    def drawn(self) -> int:
        """Number of clips drawn so far."""
        return int(self._drawn)

    @property
    def count(self) -> int:
        """Number of clips that did not decode."""
        return int(self._broken.sum())

    def segments(self) -> list[int]:
        """Return the indices of the segments that had broken clips."""
        return self._broken.nonzero().flatten().tolist()

    def draw(self) -> None:
        """Count one drawn clip."""
        self._drawn += 1

    def add(self, segment: int, name_of: Callable[[int], str], error: Exception) -> None:
        """Count and log a broken clip.

        Args:
            segment: Index of the segment.
            name_of: Returns the narration_id of a segment index.
            error: Why the clip does not decode.

        Raises:
            EpicError: There are too many broken clips. The error lists their segments.
        """
        self._broken[segment] += 1
        log.info(f"broken clip {self.count} of {self.drawn} drawn: {error}")
        too_many = self.count > max(FEW, self.max_share * self.drawn)
        if not self.max_share or too_many:
            found = [name_of(i) for i in self.segments()]
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise EpicError(
                f"{self.count} of {self.drawn} clips do not decode, more than a share of "
                f"{self.max_share:g}: {', '.join(found[:SHOWN])}{more}; were videos replaced or is "
                f"the disk failing? Scan them again. The last one: {error}"
            ) from error
