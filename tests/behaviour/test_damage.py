"""Damaged films: the scan marks all wrong pictures, and its answers are those of golden.json.

39 small films of H.264, with and without B-frames, with open and closed groups, each damaged in
one way drawn by a seed: flipped bits, zeros, cut tails, lost packets. A picture is wrong where a
lenient full decode does not show it, or shows a block of it that differs visibly from the sound
film. In a file that can be read, wrong pictures and one beside each hole are marked, and all others
are read through the dataset as they were. golden.json has today's answers: a scan that finds less,
or more, differs from it.
"""

import hashlib

import numpy as np
import pytest

from behaviour.archive import ranges
from behaviour.golden import require_golden
from behaviour.kinds import LENGTH

pytestmark = pytest.mark.slow
# VISIBLE is a mean difference over a block of 16 x 16 pixels, whose values go to 255. READ is the
# number of unmarked frames that are read of each film.
VISIBLE = 8
READ = 8


def is_wrong(picture: np.ndarray | None, true: np.ndarray) -> bool:
    """Whether a picture is missing, or a block of it differs visibly from the true picture."""
    if picture is None or picture.shape != true.shape:
        return True
    height, width = true.shape[:2]
    difference = np.abs(picture.astype(np.int16) - true)
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


def test_pictures_that_are_wrong_or_gone_are_marked(scanned, readable):
    for film, marked in readable.items():
        numbers, true = scanned.expected(film)
        shown = scanned.shown(film)
        wrong = {n for n, i in enumerate(numbers) if is_wrong(shown[n], true[i])}
        assert wrong <= marked, film.name
        # A segment over a hole has both pictures beside it.
        holes = [n for n, step in enumerate(np.diff(numbers).tolist()) if step > 1]
        assert all({n, n + 1} & marked for n in holes), film.name
        # If pictures are gone at the end, the ranges go on beyond the last frame, or the reason
        # cites the sheet.
        row = scanned.rows[film.name]
        is_loss_told = max(marked, default=-1) >= len(numbers) or "the sheet says" in row["reason"]
        assert is_loss_told == (numbers[-1] + 1 < LENGTH), film.name


def test_frames_that_are_not_marked_are_read_as_they_were(scanned, readable):
    rng, chosen, true = np.random.default_rng(4), [], []
    for film, marked in readable.items():
        numbers, pictures = scanned.expected(film)
        sound = sorted(set(range(len(numbers))) - marked)
        for n in rng.permutation(sound)[:READ].tolist():
            chosen.append((film, n, n + 1))
            true.append(pictures[numbers[n]])
    assert len(chosen) > 100
    clips = scanned.archive.read(chosen)
    for (film, n, _), clip, expected in zip(chosen, clips, true, strict=True):
        assert not is_wrong(clip[n], expected), f"{film.name}, frame {n}"


def test_the_scan_says_of_each_file_what_it_says_today(scanned):
    digest, answers = hashlib.sha256(), {}
    for film in scanned.damaged:
        row = scanned.rows[film.name]
        digest.update((scanned.archive.root / film.path).read_bytes())
        hints = "; ".join(part for part in row["reason"].split("; ") if part.startswith("hint"))
        words = (row["status"], row["pictures"], row["damaged"] or "-", hints)
        answers[film.name] = " ".join(words).strip()
    require_golden("damage", answers, digest.hexdigest())


def test_each_file_that_is_not_sound_has_a_reason(scanned):
    for film in scanned.damaged:
        row = scanned.rows[film.name]
        assert bool(row["reason"]) == (row["status"] != "ok")
