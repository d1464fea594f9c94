"""Sound films of every kind: the frames of the pipeline are those of a plain full decode.

The files are scanned by the rule and read through `EpicSegmentVideoDataset` and its index, as
training does, at 40 random places each. The scan has no complaint, and the rate and the length that
it measures are those of the film.
"""

import numpy as np
import pytest

from behaviour.films import RATES
from behaviour.kinds import SOUND

pytestmark = pytest.mark.slow
# Each film is read at this many places, by segments of fewer frames than LONGEST.
PLACES, LONGEST = 40, 12


@pytest.fixture(scope="module", params=SOUND)
def kind(request, scanned):
    return next(film for film in scanned.sound if film.name == request.param)


def test_frames_at_random_places_are_those_of_a_full_decode(kind, scanned):
    full = scanned.shown(kind)
    rng = np.random.default_rng(list(kind.name.encode()))
    starts = rng.integers(0, len(full), PLACES).tolist()
    stops = [min(start + int(rng.integers(1, LONGEST)), len(full)) for start in starts]
    # The first segment is the last frame alone.
    starts[0], stops[0] = len(full) - 1, len(full)
    clips = scanned.archive.read([(kind, *ends) for ends in zip(starts, stops, strict=True)])
    assert len(clips) == PLACES
    for clip, start, stop in zip(clips, starts, stops, strict=True):
        assert min(clip) >= start and max(clip) < stop
        assert all(np.array_equal(picture, full[frame]) for frame, picture in clip.items())


def test_the_scan_measures_a_sound_file_and_finds_no_fault(kind, scanned):
    row, pictures = scanned.rows[kind.name], str(len(scanned.shown(kind)))
    assert (row["status"], row["damaged"], row["timing"]) == ("ok", "", "constant")
    assert row["frames"] == row["pictures"] == pictures
    # Matroska counts time in milliseconds.
    assert float(row["fps"]) == pytest.approx(RATES[kind.rate], rel=3e-4)
