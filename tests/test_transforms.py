import pickle

import numpy as np
import pytest

import epic100.mmaction  # noqa: F401
from epic100.errors import EpicError
from epic100.transforms import DecodeSegment, OpenSegment
from epic100.video import FrameError


def opened(lab, **kwargs):
    path = str(lab.videos["P02_101"].path(lab.root))
    return OpenSegment(**kwargs).transform({"filename": path, "narration_id": "P02_101_7"})


def test_an_unknown_decoder_is_refused_by_name():
    with pytest.raises(EpicError, match="'opencv'.*'pyav' or 'decord'"):
        OpenSegment(decoder="opencv")


def test_the_rate_is_the_files_own_with_and_without_a_scan(lab):
    for kwargs in ({}, {"index_dir": f"{lab.results}/scan"}, {"decoder": "decord"}):
        assert opened(lab, **kwargs)["avg_fps"] == pytest.approx(50.0)


def test_a_frame_outside_the_segment_is_never_handed_out(lab):
    sample = opened(lab) | {
        "frame_inds": np.array([100, 150]), "start_index": 100, "total_frames": 50,
    }  # fmt: skip
    with pytest.raises(FrameError, match=r"P02_101_7.*\[100, 150\)"):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_frame_that_is_not_in_the_file_names_the_segment(lab, decoder):
    sample = opened(lab, decoder=decoder) | {
        "frame_inds": np.array([5000]), "start_index": 4990, "total_frames": 50,
    }  # fmt: skip
    with pytest.raises(FrameError, match=r"P02_101_7: .*P02_101\.MP4"):
        DecodeSegment().transform(sample)


def test_open_files_do_not_travel_to_other_processes(lab):
    step = OpenSegment()
    step.transform({"filename": str(lab.videos["P02_101"].path(lab.root))})
    assert pickle.loads(pickle.dumps(step))._cache is None
