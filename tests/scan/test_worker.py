"""Damage of every kind is found; its range is no larger than it must be, and the rest is read."""

import os
import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epic100.minikitchen.damage import (
    flip_bits,
    truncate,
    zero_block,
)
from epic100.scan.h264 import parse_sps, taller
from epic100.video.index import build_index
from epic100.video.nal import SPS, SetRecord
from epic100.video.reader import VideoReader
from support.damage import (
    extradata_of,
    flip,
    harmed,
    marked,
    number_at,
    overwrite,
    packets_of,
    place_of,
    random_block,
    zero_tail,
)
from support.packets import decoded, drop_packets, repeat_group, rewrite, swap_packets
from support.scanned import inspect
from support.tricky_videos import (
    PYRAMID,
    audio_only,
    cut_end,
    encode,
    join,
    parts_of,
    show_parts,
    two_entries,
)

pytestmark = pytest.mark.slow

# They are six groups of thirty pictures.
FRAMES = 180


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("original") / "v.MP4"
    return encode(path, FRAMES, size=(160, 96), **{"b-pyramid": "normal"})


@pytest.fixture
def video(original, tmp_path) -> Path:
    """A copy of a sound video, which a test may damage."""
    return Path(shutil.copy(original, tmp_path / "v.MP4"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda path, seed: zero_tail(rewrite(path, movflags="faststart"), (seed + 1) / 4), ""),
        (lambda path, seed: random_block(path, (seed + 1) / 4, 300, seed), ""),
        (lambda path, seed: random_block(path, (seed + 1) / 4, 4000, seed), "not whole NAL units"),
        (lambda path, seed: flip_bits(path, seed + 1, seed), ""),
        (swap_packets, "break the numbering"),
        (partial(drop_packets, count=1), "break the numbering"),
        (partial(drop_packets, count=12), "break the numbering"),
    ],
    ids=["zeros up to the end", "noise", "more noise", "bits", "swapped", "dropped", "12 dropped"],
)
def test_every_picture_that_changes_is_inside_a_reported_range(
    change, phrase, seed, original, video
):
    change(video, seed)
    row, index = inspect(video, "v")
    # `place` has the frame of the damaged file at the time of each picture. Where pictures are
    # missing, the next one stands for them.
    known = build_index(original).pts
    place = np.searchsorted(index.pts, known)
    missed = {frame for frame in harmed(original, video) if place[frame] not in marked(row)}
    assert not missed
    assert phrase in row.reason


@pytest.mark.parametrize("coder", ["libx264", "libvpx-vp9"])
def test_a_truncated_matroska_file_is_good_up_to_where_it_ends(coder, tmp_path):
    path = encode(tmp_path / "v.mkv", FRAMES, codec=coder)
    assert inspect(path, "v")[0].status == "ok"
    size = path.stat().st_size
    os.truncate(path, size - 1)
    row, _ = inspect(path, "v")
    assert row.status == "damaged" and "shorter than its header states" in row.reason
    os.truncate(path, size // 2)
    row, index = inspect(path, "v")
    promised = row.damaged[-1][1]
    assert f"truncated: {index.frames} of {promised} pictures are in the file" in row.reason
    # Matroska counts milliseconds, so the number is not exact.
    assert row.pictures == promised == pytest.approx(FRAMES, abs=4)


def test_damage_to_a_picture_that_no_other_is_built_on_costs_that_picture_alone(original, video):
    # Without B-pyramid the second of three B-frames is such a picture.
    packets = packets_of(encode(video, 60, size=(160, 96)))
    victim = max((p for p in packets[1:] if bytes(p)[4] & 0x60 == 0), key=lambda p: p.size)
    overwrite(video, victim.pos + 16, b"\xa5" * 8)
    row, index = inspect(video, "v")
    frame = int(np.searchsorted(index.pts, victim.pts))
    assert row.damaged == [(frame, frame + 1)]


@pytest.mark.parametrize("count", [60, 90, 180])
def test_a_whole_group_that_is_lost_is_a_gap_in_time_however_short_the_film(count, tmp_path):
    path = encode(tmp_path / "v.MP4", count, keyint=15)
    drop_packets(path, 3, 1, groups=True)
    row, _ = inspect(path, "v")
    assert (row.reason, row.timing) == ("1 gaps between pictures", "variable")
    # Only the key frame behind the gap is marked: it decodes, and so do all pictures behind it.
    ((start, stop),) = row.damaged
    assert (start % 15, stop) == (0, start + 1)


@pytest.mark.parametrize("lost", [2, 8])
def test_the_key_frame_behind_a_hole_is_marked_though_the_numbers_break_before_it(lost, video):
    def change(packets):
        key = [i for i, p in enumerate(packets) if p.is_key][3]
        return packets[: key - lost] + packets[key:]

    rewrite(video, change)
    row, index = inspect(video, "v")
    assert "break the numbering" in row.reason
    assert int(np.searchsorted(index.pts, index.key_pts[3])) in marked(row)


def test_pictures_that_share_their_time_are_reported(video):
    def change(packets):
        packets[41] = replace(packets[41], pts=packets[40].pts, is_key=False)
        return packets

    row, index = inspect(rewrite(video, change), "v")
    assert "share their time" in row.reason or "break the numbering" in row.reason
    twice = int(np.flatnonzero(np.diff(index.pts) == 0)[0]) + 1
    assert twice in marked(row)


def test_a_repeated_group_is_damaged(video):
    repeat_group(video, 2)
    row, _ = inspect(video, "v")
    assert row.pictures == FRAMES + 30
    assert "1 groups of pictures are repeated" in row.reason
    ((start, stop),) = row.damaged
    assert (start % 30, stop - start) == (0, 30)


def test_the_fewer_pictures_of_another_size_are_marked_and_those_above_the_limit_not_decoded(
    tmp_path,
):
    kinds = [
        {"size": (w, h), "source": [np.full((h, w, 3), 128, np.uint8)] * count, "repeat_headers": 1}
        for w, h, count in ((96, 64, 6), (4352, 4096, 4))
    ]
    _, large = parts = parts_of(tmp_path, *kinds)
    path = join(parts, tmp_path / "v.MP4")
    row, _ = inspect(path, "v", max_pixels=2**26)
    assert (row.frames, row.damaged) == (10, [(6, 10)])
    _, index = inspect(large, "v", max_pixels=2**26)
    # The reader must take what a scan lets pass.
    (picture,) = VideoReader(large, index).get_frames([3])
    assert picture.shape == (4096, 4352, 3)
    assert row.reason == "4 pictures are of another size"
    row, _ = inspect(path, "v", max_pixels=96 * 64)
    assert (row.frames, row.damaged) == (6, [(6, 10)])
    assert "of another size" not in row.reason


def without_pictures(path: Path) -> None:
    for packet in packets_of(path):
        overwrite(path, packet.pos + 4, bytes(packet.size - 4))


NO_INDEX = "cannot open: truncated: its index (moov box) is not there, or not all of it"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (partial(truncate, fraction=0), "cannot open: the file is empty"),
        (partial(truncate, fraction=0.9), NO_INDEX),
        (lambda path: path.write_text("404\n" * 99), "cannot open: not a video file"),
        (audio_only, "no video stream in this file"),
        (partial(cut_end, share=0.0), "its edit list hides every picture"),
        (without_pictures, "no picture decodes"),
    ],
    ids=["empty", "cut", "text", "audio", "all hidden", "zeros"],
)
def test_what_cannot_be_read_is_unreadable_with_its_reason(spoil, reason, video):
    spoil(video)
    row, index = inspect(video, "v")
    assert (row.status, index) == ("unreadable", None)
    assert row.reason.startswith(reason)


def test_a_quick_look_sees_packets_and_key_frames_and_says_what_it_saw(video):
    seen = []
    row, _ = inspect(video, "v", seen.append, quick=True)
    assert (row.status, row.reason) == ("ok", "quick look: 6 of 180 pictures decoded")
    # The progress counts up to all packets.
    assert seen[-1] == FRAMES
    zero_block(video, 0.5, 3000)
    row, _ = inspect(video, "v", quick=True)
    assert row.status == "damaged" and row.reason.startswith("quick look: ")


def late_sync(source: Path, out: Path) -> Path:
    """Its table of key frames begins one picture late."""
    place = place_of(source, "stss") + 8
    return overwrite(source, place, number_at(source, place) + 1, out)


def broken_b(source: Path, out: Path) -> Path:
    """One picture that leads a key frame of an open group does not decode."""
    packets = packets_of(source)
    key = [n for n, p in enumerate(packets) if p.is_keyframe][1]
    victim = next(p for p in packets[key + 1 :] if p.pts < packets[key].pts)
    no_type = bytes([bytes(victim)[4] | 0x1F])
    return overwrite(source, victim.pos + 4, no_type + b"\xff" * (victim.size - 5), out)


KINDS = {
    "a late table of key frames": lambda a, b, out: late_sync(a, out / "v.MP4"),
    "first packets lost": lambda a, b, out: rewrite(a, lambda packets: packets[5:], out / "v.MP4"),
    "cropped from the left": lambda a, b, out: encode(
        out / "v.MP4", 120, **PYRAMID, **{"crop-rect": "4,0,0,0"}
    ),
    "a broken picture that leads": lambda a, b, out: broken_b(b, out / "v.MP4"),
    "two edits and a gap": lambda a, b, out: show_parts(
        a, [(0, 40), (None, 40), (80, 40)], out / "v.MP4"
    ),
    "two sample entries": lambda a, b, out: two_entries(
        parts_of(out, {}, {"ref": 1, "qp": 20, "bframes": 0}), out / "v.MP4"
    ),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("originals")
    closed = encode(folder / "closed.MP4", 120, **{"b-pyramid": "normal"})
    return closed, encode(folder / "open.MP4", 120, **{"open-gop": 1, "b-pyramid": "normal"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_marked_can_be_read(kind, originals, tmp_path):
    path = KINDS[kind](*originals, tmp_path)
    row, index = inspect(path, "v")
    assert row.readable, row.reason
    sound = sorted({*range(index.frames)} - marked(row))
    assert len(sound) >= (120 if kind == "two sample entries" else 50)
    expected, reader = decoded(path), VideoReader(path, index)
    random.Random(0).shuffle(sound)
    for frame in sound:
        (picture,) = reader.get_frames([frame])
        assert np.array_equal(picture, expected[int(index.pts[frame])]), frame


def test_a_set_for_taller_pictures_keeps_all_else_and_a_spoilt_one_is_read_too_or_refused(tmp_path):
    extradata = extradata_of(encode(tmp_path / "v.MP4", 5, cqm="jvt"))
    (sps,) = SetRecord.of("h264", extradata).of_kind(SPS)
    (tmp_path / "sps").write_bytes(sps)
    spoilt = [
        flip(tmp_path / "sps", 0, bit, tmp_path / "spoilt").read_bytes()
        for bit in range(8, 8 * len(sps))
    ]
    read = 0
    for unit in (sps, *spoilt):
        try:
            before, after = parse_sps(unit), parse_sps(taller(unit, 6))
        except ValueError:
            assert unit != sps
            continue
        higher = before.height + (6 if before.progressive else 3)
        assert after == replace(before, height=higher, height_at=after.height_at)
        read += 1
    assert read > 100
