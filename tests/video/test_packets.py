"""Packets read by their places give the frames that the container gives, and nothing else."""

import errno
import gc
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epic100.base import disk
from epic100.base.errors import DiskError
from epic100.scan.h264 import parse_sps
from epic100.video import kept as kept_things
from epic100.video import packets as packets_module
from epic100.video.index import VideoIndex, build_index
from epic100.video.kept import Kept
from epic100.video.nal import Bits, SetRecord, escaped
from epic100.video.packets import DirectPackets
from epic100.video.reader import FrameError, VideoReader
from support.damage import flip, overwrite, packets_of
from support.packets import decoded
from support.scanned import inspect
from support.tricky_videos import encode, join, parts_of


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("packets") / "v.MP4", 90, **{"b-pyramid": "normal"})


@pytest.fixture(scope="module")
def index(video) -> VideoIndex:
    return build_index(video)


def test_each_packet_is_found_by_its_place_in_the_file(video, sound):
    for name, path in {"plain": video, **sound}.items():
        index, data, packets = build_index(path), path.read_bytes(), packets_of(path)
        # Matroska's blocks have a head of their own.
        assert index.direct == (name != "matroska"), name
        assert not index.changes_sets, name
        found = index.packets
        assert found["pts"].tolist() == [p.pts for p in packets]
        assert found["dts"].tolist() == [p.pts if p.dts is None else p.dts for p in packets]
        assert found["size"].tolist() == [p.size for p in packets]
        assert found["shown"].tolist() == [not p.is_discard for p in packets]
        if index.direct:
            for at, packet in zip(found["offset"].tolist(), packets, strict=True):
                assert data[at : at + packet.size] == bytes(packet), (name, at)
        assert index.keys.tolist() == [n for n, p in enumerate(packets) if p.is_keyframe]
        assert index.pts.tolist() == sorted(p.pts for p in packets if not p.is_discard)


# All sets have the same number. They stand before each key frame, as in files that were joined by
# copy. Those of the first encode are in the head of the file alone.
SETS = {
    "h264": (
        {"qp": 20, "colormatrix": "bt709"},
        {"cabac": 0, "ref": 1, "colormatrix": "smpte170m", "repeat_headers": 1},
        {"ref": 5, "weightp": 2, "chroma-qp-offset": 6, "fullrange": "on", "repeat_headers": 1},
    ),
    "hevc": (
        {"codec": "libx265", "x265": {"amp": 0, "sao": 0}},
        {"codec": "libx265", "x265": {"ref": 1, "range": "full", "repeat-headers": 1}},
    ),
}


@pytest.mark.parametrize("coder", SETS)
def test_each_key_frame_is_decoded_with_the_parameter_sets_of_its_place(coder, tmp_path):
    path = join(parts_of(tmp_path, *SETS[coder]), tmp_path / "v.MP4")
    row, index = inspect(path, "v")
    assert row.status == "ok" and index.direct and index.changes_sets
    assert len(index.keys) == sum(p.is_keyframe for p in packets_of(path))
    expected = decoded(path)
    for way in (index, replace(index, direct=False)):
        reader = VideoReader(path, way)
        for frame in np.random.default_rng(0).permutation(index.frames)[:40].tolist():
            (picture,) = reader.get_frames([frame])
            assert np.array_equal(picture, expected[int(index.pts[frame])]), frame


@pytest.mark.parametrize("name, all_handed", [("b_frames", False), ("slices", True)])
def test_pictures_that_no_wanted_one_needs_are_not_handed_to_the_decoder(sound, name, all_handed):
    index = build_index(sound[name])
    wanted = int(index.pts[20])
    group = index.packets
    until = int(np.flatnonzero(group["pts"] == wanted)[0]) + 1
    packets = DirectPackets(sound[name], index, Kept())
    handed = {packet.pts for packet, _ in packets.from_key(0, {wanted})}
    assert wanted in handed and handed <= set(group["pts"][:until].tolist())
    # All packets are handed where a picture has several slices.
    assert (len(handed) == until) == all_handed
    data = sound[name].read_bytes()
    for offset, pts in group[["offset", "pts"]][:until].tolist():
        # These two bits are nal_ref_idc.
        needed = data[offset + 4] & 0x60
        assert pts in handed or not needed


def test_streams_of_equal_parameters_share_a_decoder_and_few_files_stay_open(sound, monkeypatch):
    made, new_decoder = [], kept_things.new_decoder
    monkeypatch.setattr(
        kept_things, "new_decoder", lambda *key: made.append(key) or new_decoder(*key)
    )
    monkeypatch.setattr(kept_things, "MOST_FILES", 3)
    # Files that earlier tests left are closed now, not later.
    gc.collect()
    kept, before = Kept(), len(os.listdir("/proc/self/fd"))
    for names, decoders, files in (
        (("b_frames", "joined") * 3, 1, 2),
        (("cavlc", "hevc", "444", "10_bit", "odd_size", "lossless", "mpeg4"), 8, 3),
    ):
        for name in names:
            index = build_index(sound[name])
            # A reader of a container closes its file when it is let go.
            for way in (index, replace(index, direct=False)):
                VideoReader(sound[name], way, kept=kept).get_frames([10, 3])
        assert (len(made), len(os.listdir("/proc/self/fd"))) == (decoders, before + files)
    kept.files.cache_clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_leave_room_for_others_of_the_process(monkeypatch):
    for soft, most in ((resource.RLIM_INFINITY, 512), (4096, 512), (256, 128), (1, 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, soft=soft: (soft, soft))
        assert Kept().files.cache_parameters()["maxsize"] == most


@pytest.mark.parametrize(
    "between, most, single", [(1 << 16, 1 << 22, True), (0, 1 << 22, False), (1 << 16, 700, False)]
)
def test_a_group_is_one_read_unless_its_packets_are_far_apart_or_large(
    between, most, single, sound, monkeypatch
):
    monkeypatch.setattr(packets_module, "MOST_BETWEEN", between)
    monkeypatch.setattr(packets_module, "MOST_AT_ONCE", most)
    # Packets of the other stream are in between.
    path = sound["two_streams"]
    index = build_index(path)
    key = len(index.key_pts) - 1
    group, last = index.group(key), index.frames - 1
    expected = VideoReader(path, replace(index, direct=False)).get_frames([last])
    reads, read = [], disk.WatchedFile.read_at
    monkeypatch.setattr(disk.WatchedFile, "read_at", lambda *a: reads.append(a[2]) or read(*a))
    assert np.array_equal(VideoReader(path, index).get_frames([last]), expected)
    assert sum(reads) <= group["offset"][-1] + group["size"][-1] - group["offset"][0]
    assert (len(reads) == 1) == single
    assert all(count <= most or count in group["size"] for count in reads)


CHANGES = {
    "longer": lambda path, at: overwrite(path, path.stat().st_size, b"\0\0\0\x10free" + bytes(8)),
    "of the same length": lambda path, at: flip(path, at + 500, 7),
    "cut": lambda path, at: os.truncate(path, at + 600),
    "with packets that are elsewhere": lambda path, at: overwrite(path, at + 100, b"another"),
    "with an index of no sense": lambda path, at: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_the_scanned_one_is_an_error_also_while_it_is_kept_open(
    change, video, index, tmp_path
):
    path, kept = Path(shutil.copy(video, tmp_path / "v.MP4")), Kept()
    if change != "longer":
        VideoReader(path, index, kept=kept).get_frames([5])
    CHANGES[change](path, int(index.group(1)["offset"][0]))
    if change == "with an index of no sense":
        index = replace(index, packets=index.packets.copy())
        index.packets["size"] += 1 << 30
    with pytest.raises(FrameError, match=r"v\.MP4: is not the file that was scanned"):
        VideoReader(path, index, kept=kept).get_frames([45])


@pytest.mark.parametrize("by_place", [True, False])
def test_a_failing_disk_is_told_as_such_and_the_next_try_opens_the_file_anew(
    video, index, monkeypatch, by_place
):
    kept = Kept()

    def read():
        return VideoReader(video, replace(index, direct=by_place), kept=kept).get_frames([40])

    def fails(descriptor: int, count: int, position: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    expected = read()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fails)
        patched.setattr(disk, "WAITS", (0.0,))
        with pytest.raises(DiskError, match="reading at byte .* failed 2 times: Input/output err"):
            read()
    opened, own = [], os.open
    monkeypatch.setattr(os, "open", lambda *what: opened.append(what[0]) or own(*what))
    assert np.array_equal(read(), expected)
    assert opened == [str(video)]


def without_reorder_limit(extradata: bytes) -> bytes:
    """Cut the end of the sequence parameter set off, as encoders that write no such notes do."""
    record = SetRecord.of("h264", extradata)
    sps, *others = record.sets
    bits = Bits(sps, at=parse_sps(sps).height_at[1])
    # By clause 7.3.2.1.1 fields, direct_8x8_inference and cropping follow.
    if not bits.u(1):
        bits.u(1)
    bits.u(1)
    if bits.u(1):
        bits.skip(4)
    return replace(record, sets=[escaped(bits.text[: bits.at] + "01"), *others]).packed()


def test_no_picture_is_lost_where_a_stream_does_not_say_how_far_it_is_out_of_order(sound):
    index = build_index(sound["b_frames"])
    (extradata,) = index.sets
    silent = replace(index, sets=(without_reorder_limit(extradata),))
    frames = range(index.frames)
    expected = VideoReader(sound["b_frames"], replace(index, direct=False)).get_frames(frames)
    assert np.array_equal(VideoReader(sound["b_frames"], silent).get_frames(frames), expected)
