"""One archive of all films of tests/behaviour, sound and damaged, filmed and scanned once."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from behaviour.archive import Archive, Film, Scanned
from behaviour.films import film
from behaviour.kinds import H264, LENGTH, SOUND, WAYS

SEED = 1


@pytest.fixture(scope="session")
def scanned(once) -> Scanned:
    return once("behaviour_films", film_and_scan)


def film_and_scan(folder: Path) -> Scanned:
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
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, path)
            damage(path, np.random.default_rng([SEED, *one.name.encode()]))
            damaged[one] = original
    rows = archive.scan([*sound, *damaged])
    return Scanned(archive, sound, damaged, rows)
