import os
import shutil
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import random_block, zero_tail
from epic100.minikitchen.packet_damage import drop_packets, repeat_group, rewrite, swap_packets
from support.tricky_videos import encode


def packets(path: Path) -> list[tuple[int, bool, bytes]]:
    with av.open(str(path)) as container:
        return [(p.pts, p.is_keyframe, bytes(p)) for p in container.demux(video=0) if p.size]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("original") / "v.MP4", 150)


@pytest.fixture
def video(original, tmp_path) -> Path:
    return Path(shutil.copy(original, tmp_path / "v.MP4"))


@pytest.mark.parametrize(
    "change",
    [
        partial(swap_packets, pairs=2),
        partial(drop_packets, count=3),
        partial(drop_packets, count=1, groups=True, close=True),
        repeat_group,
    ],
)
def test_the_same_seed_damages_alike_and_another_one_otherwise(change, original, tmp_path):
    found = []
    for number, seed in enumerate((3, 3, 4, 5, 6, 7, 8, 9)):
        path = Path(shutil.copy(original, tmp_path / f"{number}.MP4"))
        change(path, seed)
        found.append(packets(path))
    assert found[0] == found[1] != packets(original)
    assert any(other != found[0] for other in found[2:])


def test_writing_a_file_anew_keeps_its_packets(original, tmp_path):
    rewrite(original, lambda own: own, tmp_path / "copy.MP4")
    assert packets(tmp_path / "copy.MP4") == packets(original)


def test_swapped_pictures_take_each_other_s_times(original, video):
    swap_packets(video, 1)
    before, after = packets(original), packets(video)
    moved = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(moved) == 2
    assert moved[1] == moved[0] + 1
    assert [after[i][0] for i in moved] == [before[i][0] for i in moved]
    assert [after[i][2] for i in moved] == [before[i][2] for i in moved][::-1]


def test_dropped_packets_leave_a_gap_or_none(original, tmp_path):
    for close in (False, True):
        path = Path(shutil.copy(original, tmp_path / f"{close}.MP4"))
        drop_packets(path, 2, 1, groups=True, close=close)
        assert len(packets(path)) == 150 - 30
        steps = np.diff(sorted(pts for pts, _, _ in packets(path)))
        assert steps.max() == (1001 if close else 31 * 1001)


def test_a_repeated_group_puts_off_all_behind_it(original, video):
    repeat_group(video, 0)
    before, after = packets(original), packets(video)
    assert len(after) == 180
    data = [d for _, _, d in after]
    assert any(data[i : i + 30] == data[i + 30 : i + 60] for i in range(0, 150, 30))
    assert max(p for p, _, _ in after) == max(p for p, _, _ in before) + 30 * 1001


def test_a_file_of_too_few_groups_is_a_clear_error(tmp_path):
    path = encode(tmp_path / "v.MP4", 20)
    kept = path.read_bytes()
    with pytest.raises(EpicError, match=r"v\.MP4: 1 key frames; expected 3 or more"):
        repeat_group(path, 0)
    assert path.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [path]


def test_blocks_and_zeros_change_what_they_should(original, video):
    before = np.frombuffer(original.read_bytes(), np.uint8)
    random_block(video, 0.5, 100, 7, box="moov")
    changed = np.flatnonzero(before != np.frombuffer(video.read_bytes(), np.uint8))
    index = original.read_bytes().index(b"moov")
    assert 60 < len(changed) <= 100
    assert changed[0] > index
    zero_tail(video, 0.5)
    after = video.read_bytes()
    assert len(after) == len(before)
    assert not any(after[len(before) // 2 :])
    assert after[: len(before) // 2] == before.tobytes()[: len(before) // 2]


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libsvtav1", "yuv420p"), ("mjpeg", "yuvj420p")], ids=["AV1", "MJPEG"]
)
def test_other_coders_are_rewritten_with_the_same_packets(codec, pix_fmt, tmp_path):
    path = encode(tmp_path / "v.MP4", 30, codec=codec, pix_fmt=pix_fmt)
    if hasattr(os, "sched_setscheduler"):  # SVT-AV1, run by root, takes a real-time priority
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    before = packets(path)
    rewrite(path, lambda all_: all_, movflags="faststart")
    assert packets(path) == before


def test_a_file_of_key_frames_alone_has_no_neighbours_to_swap(tmp_path):
    path = encode(tmp_path / "v.MP4", 10, codec="mjpeg", pix_fmt="yuvj420p")
    with pytest.raises(EpicError, match=r"v\.MP4: too few neighbours"):
        swap_packets(path, 1)
