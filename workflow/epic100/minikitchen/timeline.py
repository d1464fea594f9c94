"""Segments in order of time, and seeded random numbers, for all levels of the mini kitchen."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Card = TypeVar("Card")


@dataclass(frozen=True)
class Action:
    """One segment, [start, stop) in seconds from the first picture, with at most two decimals."""

    narration_id: str
    start: float
    stop: float
    verb: int
    noun: int


def chance(seed: int, *names: str) -> np.random.Generator:
    """Return an independent random generator for each seed and names."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def deck(rng: np.random.Generator, cards: Sequence[Card]) -> Iterator[Card]:
    """Yield the cards shuffled, again and again: the order is random and counts are balanced."""
    while True:
        for index in rng.permutation(len(cards)):
            yield cards[index]
