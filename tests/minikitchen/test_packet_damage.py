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

AV1 = {"codec": "libsvtav1", "pix_fmt": "yuv420p"}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}


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
    assert moved == [moved[0], moved[0] + 1]
    assert [after[i][0] for i in moved] == [before[i][0] for i in moved]
    assert [after[i][2] for i in moved] == [before[i][2] for i in moved][::-1]


@pytest.mark.parametrize("close, gap", [(False, 31), (True, 1)])
def test_dropped_packets_leave_a_gap_or_none(video, close, gap):
    drop_packets(video, 2, 1, groups=True, close=close)
    times = sorted(pts for pts, _, _ in packets(video))
    assert len(times) == 150 - 30 and np.diff(times).max() == gap * 1001


def test_a_repeated_group_puts_off_all_behind_it(original, video):
    repeat_group(video, 0)
    before, after = packets(original), packets(video)
    assert len(after) == 180
    data = [d for _, _, d in after]
    assert any(data[i : i + 30] == data[i + 30 : i + 60] for i in range(0, 150, 30))
    assert max(p for p, _, _ in after) == max(p for p, _, _ in before) + 30 * 1001


@pytest.mark.parametrize("change, options, words", [
    (partial(repeat_group, seed=0), {}, "1 key frames; expected 3 or more"),
    (partial(swap_packets, seed=1), MJPEG, "too few neighbours"),
])  # fmt: skip
def test_a_file_of_too_few_groups_or_neighbours_is_a_clear_error(tmp_path, change, options, words):
    path = encode(tmp_path / "v.MP4", 20, **options)
    kept = path.read_bytes()
    with pytest.raises(EpicError, match=rf"v\.MP4: {words}"):
        change(path)
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


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


@pytest.mark.parametrize("options", [AV1, MJPEG], ids=["AV1", "MJPEG"])
def test_other_coders_are_rewritten_with_the_same_packets(options, tmp_path):
    path = encode(tmp_path / "v.MP4", 30, **options)
    before = packets(path)
    rewrite(path, lambda all_: all_, movflags="faststart")
    assert packets(path) == before
