from fractions import Fraction

import av
import numpy as np
import pytest

from epic100.minikitchen.damage import zero_block
from epic100.proxy.pictures import clock, numbered
from epic100.video.ffmpeg import picture_stream
from epic100.video.index import build_index
from epic100.video.reader import FrameError, VideoReader
from support.made_index import index_at
from support.tricky_videos import encode


def test_the_clock_is_the_originals_from_the_first_picture_on():
    ticks, unit = clock(index_at([-500, 501, 1000, 9000], Fraction(1, 30000)))
    assert ticks.tolist() == [0, 1001, 1500, 9500]
    assert unit == Fraction(1, 30000)
    assert clock(index_at([77], Fraction(1, 30000)))[0].tolist() == [0]


def test_frames_that_share_a_time_follow_each_other_and_move_no_other():
    ticks, unit = clock(index_at([0, 10, 10, 10, 11, 20, 20], Fraction(1, 30)))
    seconds = [float(tick * unit) for tick in ticks.tolist()]
    assert (np.diff(ticks) > 0).all()
    assert [seconds[i] for i in (0, 1, 4, 5)] == pytest.approx([0, 10 / 30, 11 / 30, 20 / 30])
    assert max(seconds[3] - seconds[1], seconds[6] - seconds[5]) < 1 / 30


def test_what_the_reader_refuses_of_a_damaged_file_is_none_at_its_own_number(tmp_path):
    path = encode(tmp_path / "v.MP4", 120)
    index = build_index(path)
    zero_block(path, 0.4, 3000)
    with av.open(str(path)) as container:
        pictures = numbered(container, picture_stream(container), index)
        found = [(number, frame and frame.pts) for number, frame in pictures]
    assert [number for number, _ in found] == list(range(120))
    missing = [number for number, pts in found if pts is None]
    assert missing and all(pts in (None, index.pts[number]) for number, pts in found)
    reader = VideoReader(path, index)
    for number in missing:
        with pytest.raises(FrameError):
            reader.get_frames([number])
