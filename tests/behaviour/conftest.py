"""The archive of all films of tests/behaviour, sound and damaged, made and scanned once."""

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
    """Encode all sound films, damage each kind of H.264 film in each way, and scan them all.

    P01 has the sound films, and each later participant the damaged films of one kind.
    """
    archive = Archive(folder)
    sound = []
    for name, (rate, write_film) in SOUND.items():
        sound.append(Film("P01", name, rate))
        write_film(archive.root / sound[-1].path)
    damaged = {}
    for participant, (kind, options) in enumerate(H264.items(), start=2):
        original = film(folder / f"{kind}.MP4", LENGTH, **options)
        for way, damage in WAYS.items():
            copy = Film(f"P0{participant}", f"{kind}-{way}", pictures=LENGTH)
            path = archive.root / copy.path
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, path)
            damage(path, np.random.default_rng([SEED, *copy.name.encode()]))
            damaged[copy] = original
    rows = archive.scan([*sound, *damaged])
    return Scanned(archive, sound, damaged, rows)
