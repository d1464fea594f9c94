"""Compact storage for long sequences of integers that rise in small steps."""

from collections.abc import Mapping, Sequence

import numpy as np

BLOCK = 256  # a full value is stored every BLOCK values
MOST = 10**8  # values; a video of 90 fps reaches it after 300 hours
_TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


class Deltas:
    """int64 values [N], stored as steps of the smallest type that holds them.

    If all steps are equal, only one is stored. A full value every `BLOCK` steps makes any stretch
    cheap to read.
    """

    def __init__(self, length: int, first: int, steps: np.ndarray):
        """Store the values.

        Args:
            length: Number of values N.
            first: The first value.
            steps: [N - 1], from each value to the next; [1] if all steps are equal.
        """
        self._length, self._steps = length, steps
        self._equal = len(steps) == 1
        if self._equal:
            self._bases = first + int(steps[0]) * np.arange(0, max(length, 1), BLOCK)
        else:
            whole = np.cumsum(np.concatenate([[first], steps]), dtype=np.int64)
            self._bases = whole[::BLOCK].copy()

    @classmethod
    def of(cls, values: np.ndarray) -> "Deltas":
        """Pack int64 `values` [N]."""
        steps = np.diff(values)
        if len(steps) and (steps == steps[0]).all():
            steps = steps[:1]
        return cls(len(values), int(values[0]) if len(values) else 0, smallest(steps))

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self._steps.nbytes + self._bases.nbytes)

    @property
    def step(self) -> int | None:
        """The step from each value to the next, if all are equal; else None."""
        return int(self._steps[0]) if self._equal else None

    def between(self, start: int, stop: int) -> np.ndarray:
        """The values [start, stop) as int64 [stop - start]."""
        block = start // BLOCK
        first = int(self._bases[block])
        if self._equal:
            step = int(self._steps[0])
            return first + step * np.arange(start - block * BLOCK, stop - block * BLOCK)
        steps = self._steps[block * BLOCK : stop - 1].astype(np.int64)
        values = first + np.concatenate([[0], np.cumsum(steps)])
        return values[start - block * BLOCK :]

    def at(self, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """int64 values at `places`, in any order."""
        if self._equal:
            numbers = np.asarray(places, dtype=np.int64)
            return self._bases[0] + int(self._steps[0]) * numbers
        return np.array([self.between(place, place + 1)[0] for place in places], dtype=np.int64)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays for `np.savez_compressed`."""
        first = self._bases[0] if self._length else 0
        return {
            f"{prefix}_first": np.array([self._length, first], dtype=np.int64),
            f"{prefix}_steps": self._steps,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> "Deltas":
        """Rebuild from the arrays of `to_arrays`.

        Raises:
            ValueError: `to_arrays` cannot have written these arrays.
        """
        length, first = map(int, arrays[f"{prefix}_first"])
        steps = arrays[f"{prefix}_steps"]
        fits = length == len(steps) + 1 or length == len(steps) == 0
        equal = len(steps) == 1 and 0 < length <= MOST  # a few bytes could claim any length
        if steps.ndim != 1 or steps.dtype.kind not in "iu" or not (fits or equal):
            raise ValueError(f"{len(steps)} steps of {length} values")
        return cls(length, first, steps)


def smallest(values: np.ndarray) -> np.ndarray:
    """The same integers in the smallest integer type that holds them all.

    Raises:
        ValueError: They do not fit into 64 bits.
    """
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in _TYPES:
        limits = np.iinfo(kind)
        if limits.min <= least and most <= limits.max:
            return values.astype(kind)
    raise ValueError("not whole numbers of 64 bits")
