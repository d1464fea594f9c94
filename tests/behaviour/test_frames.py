"""Undamaged films of every type: the dataset reads the frames that a full decode shows.

The rule scans the films, and `EpicSegmentVideoDataset` reads them by the index of the scan.
"""

import numpy as np
import pytest

from behaviour.film_types import UNDAMAGED
from behaviour.films import RATES

pytestmark = pytest.mark.slow
# Each film is read at this number of random places, by segments of fewer frames than LONGEST.
PLACES = 40
LONGEST = 12


@pytest.fixture(scope="module", params=UNDAMAGED)
def film_type(request, scanned):
    """An undamaged film, of each type in turn."""
    return next(film for film in scanned.undamaged if film.name == request.param)


def test_the_frames_of_segments_are_those_of_a_full_decode(film_type, scanned):
    full = scanned.shown(film_type)
    rng = np.random.default_rng(list(film_type.name.encode()))
    starts = rng.integers(0, len(full), PLACES).tolist()
    stops = [min(start + int(rng.integers(1, LONGEST)), len(full)) for start in starts]
    # One more segment is the last frame alone.
    starts.append(len(full) - 1)
    stops.append(len(full))
    segments = [(film_type, start, stop) for start, stop in zip(starts, stops, strict=True)]
    clips = scanned.archive.read(segments)
    for clip, start, stop in zip(clips, starts, stops, strict=True):
        assert min(clip) >= start and max(clip) < stop
        assert all(np.array_equal(frame, full[number]) for number, frame in clip.items())


def test_the_scan_finds_no_damage_and_the_right_rate_and_length(film_type, scanned):
    row = scanned.rows[film_type.name]
    frames = str(len(scanned.shown(film_type)))
    assert (row["status"], row["damaged"], row["timing"]) == ("ok", "", "constant")
    assert row["frames"] == row["pictures"] == frames
    # Matroska rounds times to milliseconds, so the rate is not exact.
    assert float(row["fps"]) == pytest.approx(RATES[film_type.rate], rel=3e-4)
