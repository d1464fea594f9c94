"""One archive of all films of tests/behaviour, sound and damaged, filmed and scanned once."""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from behaviour.archive import Archive, Film
from behaviour.films import decode, film, times_of
from behaviour.kinds import H264, LENGTH, SOUND, WAYS

SEED = 1


@dataclass
class Scanned:
    """The archive, its films by kind and its scan tables; originals of the damaged ones."""

    archive: Archive
    sound: list[Film]
    damaged: dict[Film, Path]
    rows: dict[str, dict[str, str]]

    def __post_init__(self):
        self.truth = cache(decode)

    def shown(self, film: Film) -> list[np.ndarray | None]:
        """The pictures of each frame as a lenient full decode of the file has them."""
        path = self.archive.root / film.path
        seen = decode(path)
        return [seen.get(time) for time in times_of(path)]

    def expected(self, film: Film) -> tuple[list[int], list[np.ndarray]]:
        """For each frame of a damaged film, its number in the original; the original's pictures."""
        pictures = self.truth(self.damaged[film])
        times = np.array(times_of(self.archive.root / film.path))
        known = np.array(list(pictures))
        found = np.searchsorted(known - known[0], times - times[0])
        assert np.array_equal((known - known[0])[found], times - times[0])
        return found.tolist(), list(pictures.values())


@pytest.fixture(scope="session")
def scanned(tmp_path_factory) -> Scanned:
    folder = tmp_path_factory.mktemp("behaviour")
    archive = Archive(folder)
    sound = [Film("P01", name, rate) for name, (rate, _) in SOUND.items()]
    for one in sound:
        SOUND[one.name][1](archive.root / one.path)
    damaged = {}
    for number, (name, kind) in enumerate(H264.items()):
        original = film(folder / f"{name}.MP4", LENGTH, **kind)
        for way, damage in WAYS.items():
            one = Film(f"P0{number + 2}", f"{name}-{way}", pictures=LENGTH)
            path = archive.root / one.path
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(original, path)
            damage(path, np.random.default_rng([SEED, *one.name.encode()]))
            damaged[one] = original
    rows = archive.scan([*sound, *damaged])
    return Scanned(archive, sound, damaged, rows)
