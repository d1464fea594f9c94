"""The archive of all films of tests/behaviour, undamaged and damaged, made and scanned once."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from behaviour.archive import Archive, Film, Scanned
from behaviour.films import DAMAGES, H264, LENGTH, UNDAMAGED, film

# It determines the places of the damage.
SEED = 1


@pytest.fixture(scope="session")
def scanned(once) -> Scanned:
    """The scanned archive; to be read only."""
    return once("behaviour_films", film_and_scan)


def film_and_scan(folder: Path) -> Scanned:
    """Encode all undamaged films, damage each type of H.264 film in each way, and scan them all.

    P01 has the undamaged films, and each later participant the damaged films of one type.
    """
    archive = Archive(folder)
    undamaged = []
    for name, (rate, write_film) in UNDAMAGED.items():
        undamaged.append(Film("P01", name, rate))
        write_film(archive.root / undamaged[-1].path)
    damaged = {}
    for participant, (film_type, options) in enumerate(H264.items(), start=2):
        original = film(folder / f"{film_type}.MP4", LENGTH, **options)
        for name, damage in DAMAGES.items():
            copy = Film(f"P0{participant}", f"{film_type}-{name}", frames=LENGTH)
            path = archive.root / copy.path
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, path)
            damage(path, np.random.default_rng([SEED, *copy.name.encode()]))
            damaged[copy] = original
    rows = archive.scan([*undamaged, *damaged])
    return Scanned(archive, undamaged, damaged, rows)
