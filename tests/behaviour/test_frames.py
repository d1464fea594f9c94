"""Undamaged films of every kind: the dataset reads the frames that a full decode shows.

The rule scans the films, and `EpicSegmentVideoDataset` reads them by the index of the scan.
"""

import numpy as np
import pytest

from behaviour.films import RATES
from behaviour.kinds import UNDAMAGED

pytestmark = pytest.mark.slow
# Each film is read at this many random places, by segments of fewer frames than LONGEST.
PLACES = 40
LONGEST = 12


@pytest.fixture(scope="module", params=UNDAMAGED)
def kind(request, scanned):
    """An undamaged film, of each kind in turn."""
    return next(film for film in scanned.undamaged if film.name == request.param)


def test_the_frames_of_segments_are_those_of_a_full_decode(kind, scanned):
    full = scanned.shown(kind)
    rng = np.random.default_rng(list(kind.name.encode()))
    starts = rng.integers(0, len(full), PLACES).tolist()
    stops = [min(start + int(rng.integers(1, LONGEST)), len(full)) for start in starts]
    # One more segment is the last frame alone.
    starts.append(len(full) - 1)
    stops.append(len(full))
    segments = [(kind, start, stop) for start, stop in zip(starts, stops, strict=True)]
    clips = scanned.archive.read(segments)
    for clip, start, stop in zip(clips, starts, stops, strict=True):
        assert min(clip) >= start and max(clip) < stop
        assert all(np.array_equal(frame, full[number]) for number, frame in clip.items())


def test_the_scan_finds_no_damage_and_the_right_rate_and_length(kind, scanned):
    row = scanned.rows[kind.name]
    frames = str(len(scanned.shown(kind)))
    assert (row["status"], row["damaged"], row["timing"]) == ("ok", "", "constant")
    assert row["frames"] == row["pictures"] == frames
    # Matroska rounds times to milliseconds, so the rate is not exact.
    assert float(row["fps"]) == pytest.approx(RATES[kind.rate], rel=3e-4)
