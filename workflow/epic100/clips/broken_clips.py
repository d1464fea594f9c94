"""Clips that fail to decode although the scan let them pass: counted over all loader processes."""

import logging
from collections.abc import Callable

import torch

from epic100.base.errors import EpicError

log = logging.getLogger(__name__)

FEW = 10  # broken clips that never stop a run whose `max_share` is above zero
SHOWN = 20


class BrokenClips:
    """Counts of drawn and broken clips, shared with loader workers; says when it is too much.

    Args:
        segments: number of segments.
        max_share: share of drawn clips that may be broken, 0 to 1; at 0 the first one is too much.
    """

    def __init__(self, segments: int, max_share: float):
        self.max_share = max_share
        # Workers add without a lock: a lost count now and then changes no decision.
        self._drawn = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._broken = torch.zeros(segments, dtype=torch.int32).share_memory_()

    @property
    def drawn(self) -> int:
        """Clips asked for so far."""
        return int(self._drawn)

    @property
    def count(self) -> int:
        """Clips that did not decode."""
        return int(self._broken.sum())

    def segments(self) -> list[int]:
        """Numbers of the segments that had broken clips."""
        return self._broken.nonzero().flatten().tolist()

    def draw(self) -> None:
        """Count one clip that is asked for."""
        self._drawn += 1

    def add(self, segment: int, name_of: Callable[[int], str], error: Exception) -> None:
        """Count a broken clip and say so. Raises EpicError with a list once they are too many.

        `name_of` gives the narration_id of a segment number.
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
