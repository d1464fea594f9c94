import os
import shutil
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.minikitchen.damage import (
    empty,
    flip_bits,
    random_block,
    truncate,
    zero_block,
    zero_tail,
)
from epic100.minikitchen.packet_damage import (
    CodedPicture,
    drop_packets,
    repeat_group,
    rewrite,
    swap_packets,
)
from epic100.scan.worker import inspect
from epic100.video.index import build_index
from support.damage import harmed, marked
from support.tricky_videos import (
    audio_only,
    change_size,
    cut_end,
    cut_start,
    encode,
)

pytestmark = pytest.mark.slow

FRAMES = 180  # six groups of thirty pictures


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("original") / "v.MP4"
    return encode(path, FRAMES, size=(160, 96), **{"b-pyramid": "normal"})


@pytest.fixture
def video(original, tmp_path) -> Path:
    """A sound video of its own for a test to damage."""
    return Path(shutil.copy(original, tmp_path / "v.MP4"))


# What is reported of sound files of some kinds, and nothing else.
HINTS = {
    "intra_refresh": "hint: 3 key frames are marked wrongly",
    "two_rates": "hint: the rate changes from 29.97 to 60.00 fps at about frame 64",
    "paused": "hint: 1 pauses, no picture lost",
    "matroska": "hint: the container is matroska,webm, not MP4",
    "still": "hint: frozen 63-144",
    "black": "hint: frozen 15-144; hint: black 15-144",
}


def test_no_sound_file_is_called_damaged_and_every_picture_decodes(sound):
    assert len(sound) > 35
    wrong = {}
    for name, path in sound.items():
        row, index = inspect(path, name)
        if (row.status, row.damaged, row.reason) != ("ok", [], HINTS.get(name, "")):
            wrong[name] = row
        assert row.frames == row.pictures == index.frames > 0, name
    assert not wrong


def test_no_sound_file_is_called_damaged_at_a_quick_look(sound):
    wrong = {}
    for name, path in sound.items():
        row, _ = inspect(path, name, quick=True)
        if row.status != "ok" or not row.reason.startswith("quick look: "):
            wrong[name] = row
    assert not wrong


def test_pictures_that_lead_a_cut_in_an_open_group_are_damaged_only_if_they_are_shown(
    sound, tmp_path
):
    row, _ = inspect(sound["cut_at_open_key"], "v")
    assert row.status == "ok"
    # The same cut, but the index says that the leading pictures are to be seen.
    path = tmp_path / "shown.MP4"
    row, _ = inspect(cut_start(sound["open_gop"], path, 60, hide=False), "v")
    assert row.status == "damaged"
    leading = row.damaged[0][1]
    assert row.damaged == [(0, leading)]
    assert 1 <= leading <= 3


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda path, seed: zero_block(path, (seed + 1) / 8, 300), ""),
        (lambda path, seed: random_block(path, (seed + 1) / 8, 300, seed), ""),
        (lambda path, seed: random_block(path, (seed + 1) / 8, 4000, seed), "not whole NAL units"),
        (swap_packets, "break the numbering"),
        (partial(drop_packets, count=1), "break the numbering"),
        (partial(drop_packets, count=12), "break the numbering"),
    ],
    ids=["zeros", "noise", "more noise", "swapped", "dropped", "12 dropped"],
)
def test_every_picture_that_changes_is_inside_a_reported_range(
    change, phrase, seed, original, video
):
    change(video, seed)
    row, index = inspect(video, "v")
    # Frames of the damaged file by time: where pictures are missing, the one behind stands for all.
    known = build_index(original).pts
    place = np.searchsorted(index.pts, known)
    missed = {frame for frame in harmed(original, video) if place[frame] not in marked(row)}
    assert not missed
    assert phrase in row.reason


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_a_truncated_file_is_good_up_to_where_it_ends(fraction, movflags, original, video):
    rewrite(video, lambda packets: packets, movflags=movflags)
    truncate(video, fraction)
    row, index = inspect(video, "v")
    assert row.status == "damaged"
    assert "truncated" in row.reason
    good = min([start for start, _ in row.damaged], default=row.pictures)
    assert index.frames - 8 <= good <= index.frames
    assert not {f for f in harmed(original, video) if f < good}
    if movflags == "faststart":
        assert row.damaged[-1][1] == row.pictures == FRAMES


@pytest.mark.parametrize("coder", ["libx264", "libvpx-vp9"])
def test_a_truncated_matroska_file_is_good_up_to_where_it_ends(coder, original, tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(original) as pictures, av.open(path, "w") as container:
        stream = container.add_stream(coder, rate=50, width=64, height=36, pix_fmt="yuv420p")
        for frame in pictures.decode(video=0):
            container.mux(stream.encode(frame.reformat(64, 36)))
        container.mux(stream.encode(None))
    assert inspect(path, "v")[0].status == "ok"
    size = path.stat().st_size
    os.truncate(path, size - 1)
    row, _ = inspect(path, "v")
    assert row.status == "damaged" and "shorter than its header states" in row.reason
    os.truncate(path, size // 2)
    row, index = inspect(path, "v")
    promised = row.damaged[-1][1]
    assert f"truncated: {index.frames} of {promised} pictures are in the file" in row.reason
    assert row.pictures == promised == pytest.approx(FRAMES, abs=4)  # it counts milliseconds


def test_a_file_whose_index_was_at_its_end_and_is_gone_says_so(video):
    truncate(video, 0.9)
    row, index = inspect(video, "v")
    assert (row.status, index) == ("unreadable", None)
    assert row.reason == (
        "cannot open: truncated: its index (moov box) is not there, or not all of it"
    )


def test_zeros_up_to_the_end_are_damaged_up_to_the_end(original, video):
    rewrite(video, lambda packets: packets, movflags="faststart")
    zero_tail(video, 0.6)
    row, _ = inspect(video, "v")
    assert harmed(original, video) <= marked(row)
    assert row.damaged[-1][1] == row.pictures == FRAMES


def test_damage_ends_at_the_next_clean_key_frame(video):
    zero_block(video, 0.4, 200)
    row, index = inspect(video, "v")
    ends = {stop for start, stop in row.damaged if stop - start > 1}
    keys = set(np.searchsorted(index.pts, index.key_pts).tolist())
    assert ends
    assert ends <= keys | {FRAMES}


def test_damage_to_a_picture_that_no_other_is_built_on_costs_that_picture_alone(original, video):
    # Without B-pyramid the second of three B-frames is such a picture.
    encode(video, 60, size=(160, 96))
    with av.open(str(video)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        victim = max((p for p in packets[1:] if bytes(p)[4] & 0x60 == 0), key=lambda p: p.size)
        position, pts = victim.pos + 16, victim.pts
    data = bytearray(video.read_bytes())
    data[position : position + 8] = b"\xa5" * 8
    video.write_bytes(data)
    row, index = inspect(video, "v")
    frame = int(np.searchsorted(index.pts, pts))
    assert row.damaged == [(frame, frame + 1)]


def test_flipped_bits_are_found_where_a_strict_decoder_lets_most_pass(original, tmp_path):
    """Of the pictures that change visibly, 99 % and more lie inside reported ranges."""
    changed = missed = silent = caught = 0
    for seed in range(40):
        path = Path(shutil.copy(original, tmp_path / "v.MP4"))
        flip_bits(path, 1 + seed % 2, 1000 + seed)
        bad = harmed(original, path)
        if not bad:
            continue
        row, _ = inspect(path, "v")
        changed += len(bad)
        missed += len(bad - marked(row))
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"err_detect": "explode"}
            try:
                passes = not any(f.is_corrupt for f in container.decode(stream))
            except av.error.FFmpegError:
                passes = False
        silent += passes
        caught += passes and row.status == "damaged"
    assert changed > 100
    assert missed <= 0.01 * changed
    assert silent >= 4  # else this test shows nothing
    assert caught >= 0.9 * silent


def test_a_gap_in_time_is_reported_and_times_go_through_the_index(video):
    drop_packets(video, 3, 1, groups=True)
    row, _ = inspect(video, "v")
    assert row.reason == "1 gaps between pictures"
    assert row.timing == "variable"
    ((start, stop),) = row.damaged  # the key frame behind the gap decodes, and all behind it
    assert (start % 30, stop) == (0, start + 1)


def test_pictures_that_share_their_time_are_reported(video):
    def change(packets):
        clash = packets[40]
        packets[41] = type(clash)(packets[41].data, clash.pts, packets[41].dts, False)
        return packets

    rewrite(video, change)
    row, index = inspect(video, "v")
    assert row.status == "damaged"
    assert "share their time" in row.reason or "break the numbering" in row.reason
    twice = int(np.flatnonzero(np.diff(index.pts) == 0)[0]) + 1
    assert twice in marked(row)


def test_a_repeated_group_is_found_and_all_behind_it_is_late(video):
    repeat_group(video, 2)
    row, _ = inspect(video, "v")
    assert row.pictures == FRAMES + 30
    assert "1 groups of pictures are repeated" in row.reason
    (start, stop) = row.damaged[-1]
    assert stop == row.pictures
    assert start % 30 == 0


def test_a_repeated_group_in_a_file_of_the_right_length_costs_that_group_alone(video):
    repeat_group(video, 2)
    seconds = build_index(video).frames * 1001 / 30000
    row, _ = inspect(video, "v", seconds=seconds)
    ((start, stop),) = row.damaged
    assert stop - start == 30


def test_pictures_lost_without_a_gap_put_all_behind_them_off(video):
    drop_packets(video, 5, 12, close=True)
    row, _ = inspect(video, "v", seconds=FRAMES * 1001 / 30000 + 1)
    assert row.damaged[-1][1] == row.pictures
    assert "pictures are off their time" in row.reason


@pytest.mark.parametrize("lost", [20, 21, 25])
def test_pictures_lost_before_an_open_key_frame_put_all_behind_them_off(lost, tmp_path):
    """There the numbers begin anew, and only the sheet's length says that the times are wrong."""
    path = encode(tmp_path / "v.MP4", FRAMES, **{"open-gop": 1, "b-pyramid": "normal"})

    def change(packets: list[CodedPicture]) -> list[CodedPicture]:
        key = [i for i, p in enumerate(packets) if p.is_key][3]
        late = [
            CodedPicture(p.data, p.pts - lost * step, p.dts - lost * step, p.is_key)
            for p in packets[key:]
        ]
        return packets[: key - lost] + late

    step = int(np.median(np.diff(build_index(path).pts)))
    rewrite(path, change)
    row, _ = inspect(path, "v", seconds=FRAMES * 1001 / 30000)
    assert row.damaged[-1][1] == row.pictures == FRAMES - lost
    assert "pictures are off their time" in row.reason
    row, _ = inspect(path, "v", seconds=(FRAMES - lost) * 1001 / 30000)
    assert row.damaged[-1][1] < row.pictures
    assert "pictures are off their time" not in row.reason


def test_a_change_of_size_marks_the_smaller_part(tmp_path):
    path = change_size(tmp_path / "v.MP4", 60)
    row, index = inspect(path, "v")
    assert row.status == "damaged"
    assert "pictures are of another size" in row.reason
    assert len(marked(row)) == 60 == index.frames // 2


def test_a_spoilt_index_makes_a_video_unreadable_or_damaged(original, tmp_path):
    statuses, unnoticed = set(), []
    for seed in range(16):
        path = Path(shutil.copy(original, tmp_path / "v.MP4"))
        random_block(path, seed / 16, 64, seed, box="moov")
        row, _ = inspect(path, "v", seconds=FRAMES * 1001 / 30000)
        statuses.add(row.status)
        if row.status == "ok" and any(f < row.pictures for f in harmed(original, path)):
            unnoticed.append(seed)
    assert {"damaged", "unreadable"} <= statuses
    assert len(unnoticed) <= 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b""), "cannot open: the file is empty"),
        (lambda path: path.write_text("404\n" * 99), "cannot open: not a video file"),
        (lambda path: audio_only(path), "no video stream"),
        (lambda path: cut_end(encode(path, 30), 0.0), "its edit list hides every picture"),
    ],
    ids=["empty", "text", "audio", "all hidden"],
)
def test_what_cannot_be_read_is_unreadable_with_its_reason(make, reason, tmp_path):
    path = tmp_path / "v.MP4"
    make(path)
    row, index = inspect(path, "v")
    assert (row.status, index) == ("unreadable", None)
    assert row.reason.startswith(reason)


def test_a_video_of_which_nothing_decodes_is_unreadable(video):
    with av.open(str(video)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(video.read_bytes())
    for position, size in places:
        data[position + 4 : position + size] = bytes(size - 4)
    video.write_bytes(data)
    row, _ = inspect(video, "v")
    assert row.status == "unreadable"
    assert row.reason.startswith("no picture decodes")


def test_a_quick_look_sees_packets_and_key_frames_and_says_what_it_saw(video, original):
    whole, _ = inspect(original, "v", quick=True)
    assert (whole.status, whole.reason) == ("ok", "quick look: 6 of 180 pictures decoded")
    zero_block(video, 0.5, 3000)
    row, index = inspect(video, "v", quick=True)
    assert row.status == "damaged"
    assert row.reason.startswith("quick look: ")
    full, full_index = inspect(video, "v")
    assert marked(row) <= marked(full) | {f for s, e in full.damaged for f in (s - 1, e)}
    assert np.array_equal(index.pts, full_index.pts)


def test_progress_counts_up_to_all_packets(original):
    seen = []
    inspect(original, "v", seen.append)
    assert seen[-1] == FRAMES


def test_an_emptied_file_is_not_a_video(video):
    empty(video)
    assert inspect(video, "v")[0].status == "unreadable"
