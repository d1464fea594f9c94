"""Damaged films: the scan marks every wrong frame, and the dataset reads the right ones.

The rule scans the films, and `EpicSegmentVideoDataset` reads them by the index of the scan. 39
small films of H.264, with and without B-frames, with open and closed groups of frames, are each
damaged in one way: flipped bits, zeros, a cut end or lost packets. A frame is wrong if a lenient
full decode misses it, or shows a block of it that differs visibly from the undamaged film.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from behaviour.archive import Archive, Film, Scanned, ranges, require_golden
from behaviour.films import DAMAGES, H264, LENGTH, encode

pytestmark = pytest.mark.slow
# A larger mean difference over a block of 16 x 16 pixels is visible. Values go to 255.
VISIBLE = 8
# The maximum number of unmarked frames that are read of each film.
READ = 8


# It determines the places of the damage.
SEED = 1


@pytest.fixture(scope="module")
def scanned(once) -> Scanned:
    """The scanned archive; to be read only."""
    return once("behaviour_films", film_and_scan)


def film_and_scan(folder: Path) -> Scanned:
    """Damage each type of film in each way, a participant for each type, and scan them."""
    archive = Archive(folder)
    damaged = {}
    for participant, (film_type, options) in enumerate(H264.items(), start=2):
        original = encode(folder / f"{film_type}.MP4", **options)
        for name, damage in DAMAGES.items():
            copy = Film(f"P0{participant}", f"{film_type}-{name}")
            path = archive.root / copy.path
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, path)
            damage(path, np.random.default_rng([SEED, *copy.name.encode()]))
            damaged[copy] = original
    return Scanned(archive, damaged, archive.scan(damaged))


def is_wrong(frame: np.ndarray | None, true: np.ndarray) -> bool:
    """Whether a frame is missing, or a block of it differs visibly from the true frame."""
    if frame is None or frame.shape != true.shape:
        return True
    height, width = true.shape[:2]
    difference = np.abs(frame.astype(np.int16) - true)
    blocks = difference.reshape(height // 16, 16, width // 16, 16, 3)
    return blocks.mean(axis=(1, 3, 4)).max() > VISIBLE


@pytest.fixture(scope="module")
def readable(scanned):
    """The damaged films that the scan can read, each with the set of its marked frames."""
    rows = {film: scanned.rows[film.name] for film in scanned.damaged}
    return {
        film: {n for start, stop in ranges(row["damaged"]) for n in range(start, stop)}
        for film, row in rows.items()
        if row["status"] in ("ok", "damaged")
    }


def test_wrong_and_missing_frames_are_marked(scanned, readable):
    for film, marked in readable.items():
        # Frame i of the film is frame `numbers[i]` of the undamaged film.
        numbers, true = scanned.expected(film)
        shown = scanned.shown(film)
        wrong = {
            number
            for number, true_number in enumerate(numbers)
            if is_wrong(shown[number], true[true_number])
        }
        assert wrong <= marked, film.name
        # A segment over a hole has both frames next to it.
        holes = [n for n, step in enumerate(np.diff(numbers).tolist()) if step > 1]
        assert all({n, n + 1} & marked for n in holes), film.name
        # If frames are gone at the end, the ranges go on beyond the last frame, or the reason
        # cites the sheet.
        row = scanned.rows[film.name]
        is_loss_told = max(marked, default=-1) >= len(numbers) or "the sheet says" in row["reason"]
        assert is_loss_told == (numbers[-1] + 1 < LENGTH), film.name


def test_unmarked_frames_are_read_as_they_are_in_the_undamaged_film(scanned, readable):
    rng = np.random.default_rng(4)
    segments, expected = [], []
    for film, marked in readable.items():
        numbers, frames = scanned.expected(film)
        unmarked = sorted(set(range(len(numbers))) - marked)
        for number in rng.permutation(unmarked)[:READ].tolist():
            segments.append((film, number, number + 1))
            expected.append(frames[numbers[number]])
    assert len(segments) > 100
    clips = scanned.archive.read(segments)
    for (film, number, _), clip, frame in zip(segments, clips, expected, strict=True):
        assert not is_wrong(clip[number], frame), f"{film.name}, frame {number}"


def test_the_scan_of_damaged_films_is_that_of_golden_json(scanned):
    digest, results = hashlib.sha256(), {}
    for film in scanned.damaged:
        row = scanned.rows[film.name]
        assert bool(row["reason"]) == (row["status"] != "ok")
        digest.update((scanned.archive.root / film.path).read_bytes())
        hints = "; ".join(part for part in row["reason"].split("; ") if part.startswith("hint"))
        cells = (row["status"], row["pictures"], row["damaged"] or "-", hints)
        results[film.name] = " ".join(cells).strip()
    require_golden("damage", results, digest.hexdigest())
