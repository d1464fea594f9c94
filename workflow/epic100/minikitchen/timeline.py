"""Segments in order of time, and seeded chance: what every level of the kitchen shares."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Card = TypeVar("Card")


@dataclass(frozen=True)
class Action:
    """One segment, [start, stop) in seconds from the video's first picture, hundredths at most."""

    narration_id: str
    start: float
    stop: float
    verb: int
    noun: int


def chance(seed: int, *names: str) -> np.random.Generator:
    """A stream of random numbers of its own for each seed and names."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def deck(rng: np.random.Generator, cards: Sequence[Card]) -> Iterator[Card]:
    """The cards, shuffled, over and over: random order, balanced counts."""
    while True:
        for index in rng.permutation(len(cards)):
            yield cards[index]
