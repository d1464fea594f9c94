"""Packets read by their places give the frames that the container gives, and nothing else."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import DiskError
from epic100.scan import h264
from epic100.video import direct_packets, watched_file
from epic100.video.index import VideoIndex, build_index
from epic100.video.kept import Converters, Kept, OpenFiles
from epic100.video.packet_table import PacketTable
from epic100.video.reader import FrameError, VideoReader
from support.tricky_videos import encode, other_settings


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("direct") / "v.MP4", 90, **{"b-pyramid": "normal"})


def with_table(index: VideoIndex, **changes) -> VideoIndex:
    return replace(index, table=replace(index.table, **changes))


def assert_same_frames(path: Path, index: VideoIndex, kept: Kept, seed: int = 0) -> bool:
    """Compare both ways; returns whether there are two."""
    rng = np.random.default_rng(seed)
    direct = VideoReader(path, index, kept=kept)
    other = VideoReader(path, index.through_container(), kept=kept)
    assert (direct.size, direct.fps, direct.frames) == (other.size, other.fps, other.frames)
    assert not other.by_place
    for count in (1, 1, 1, 13, 5):
        frames = rng.integers(0, index.frames, count)
        assert np.array_equal(direct.get_frames(frames), other.get_frames(frames)), path
    direct.close()
    other.close()
    return direct.by_place


def test_both_ways_give_the_same_frames_of_every_kind_of_file(sound):
    kept = Kept()
    by_place = {n for n, p in sound.items() if assert_same_frames(p, build_index(p), kept)}
    assert set(sound) - by_place == {"matroska"}  # its blocks have a head of their own
    assert len(kept.decoders) <= kept.decoders.most


def test_each_key_frame_is_decoded_with_the_parameter_sets_of_its_place(tmp_path):
    path = other_settings(tmp_path, tmp_path / "v.MP4")
    index = build_index(path)
    assert len(set(index.table.key_sets.tolist())) == 3
    assert assert_same_frames(path, index, Kept())


@pytest.mark.parametrize("name, all_handed", [("b_frames", False), ("slices", True)])
def test_pictures_that_no_wanted_one_needs_are_not_handed_to_the_decoder(sound, name, all_handed):
    index = build_index(sound[name])
    wanted = int(index.pts[20])
    group = index.table.stretch(0, len(index.table))
    until = int(np.flatnonzero(group.pts == wanted)[0]) + 1
    packets = direct_packets.DirectPackets(sound[name], index.table, Kept())
    handed = {packet.pts for packet, _ in packets.from_key(0, {wanted})}
    assert wanted in handed and handed <= set(group.pts[:until].tolist())
    assert (len(handed) == until) == all_handed  # of pictures with several slices, all are handed
    data = sound[name].read_bytes()
    for offset, pts in zip(group.offset[:until].tolist(), group.pts[:until].tolist(), strict=True):
        needed = data[offset + 4] & 0x60  # nal_ref_idc
        assert pts in handed or not needed


def test_streams_of_equal_parameters_share_a_decoder_and_a_file_is_opened_once(sound):
    kept = Kept(files=OpenFiles(2))
    for name in ("b_frames", "joined") * 3:
        VideoReader(sound[name], build_index(sound[name]), kept=kept).get_frames([50, 3])
    assert (kept.files.opened, len(kept.decoders)) == (2, 1)
    VideoReader(sound["cavlc"], build_index(sound["cavlc"]), kept=kept).get_frames([50])
    assert (kept.files.opened, len(kept.files), len(kept.decoders)) == (3, 2, 2)


def test_files_decoders_and_converters_that_are_kept_are_bounded(sound):
    kept = Kept(files=OpenFiles(3), converters=Converters(2))
    before = len(os.listdir("/proc/self/fd"))
    for name in ("b_frames", "cavlc", "hevc", "444", "10_bit", "odd_size", "lossless", "mpeg4"):
        VideoReader(sound[name], build_index(sound[name]), kept=kept).get_frames([2])
    assert len(kept.files) == 3 and len(kept.decoders) == kept.decoders.most
    assert len(kept.converters) == 2
    assert len(os.listdir("/proc/self/fd")) == before + 3
    kept.files.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_leave_room_for_others_of_the_process():
    import resource

    assert OpenFiles().most <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


@pytest.mark.parametrize(
    "between, most, single", [(1 << 16, 1 << 22, True), (0, 1 << 22, False), (1 << 16, 700, False)]
)
def test_a_group_is_one_read_unless_its_packets_are_far_apart_or_large(
    between, most, single, sound, monkeypatch
):
    monkeypatch.setattr(direct_packets, "MOST_BETWEEN", between)
    monkeypatch.setattr(direct_packets, "MOST_AT_ONCE", most)
    reads = []
    read = OpenFiles.read
    monkeypatch.setattr(OpenFiles, "read", lambda *a: reads.append(a[3]) or read(*a))
    path = sound["two_streams"]  # those of the other stream are in between
    index = build_index(path)
    key = len(index.key_pts) - 1
    group, last = index.table.group(key), index.frames - 1
    expected = VideoReader(path, index.through_container()).get_frames([last])
    assert np.array_equal(VideoReader(path, index).get_frames([last]), expected)
    assert sum(reads) <= group.offset[-1] + group.size[-1] - group.offset[0]
    assert (len(reads) == 1) == single
    assert all(count <= most or count in group.size for count in reads)


@pytest.mark.parametrize("change", ["cut", "packets that are elsewhere", "of no sense"])
def test_a_file_that_is_not_the_scanned_one_is_an_error_also_while_it_is_kept_open(
    change, video, tmp_path
):
    path = Path(shutil.copy(video, tmp_path / "v.MP4"))
    index, kept = build_index(path), Kept()
    reader = VideoReader(path, index, kept=kept)
    reader.get_frames([5])
    table: PacketTable = index.table
    if change == "cut":
        os.truncate(path, int(table.group(1).offset[3]))
    elif change == "of no sense":
        huge = with_table(index, size=table.size.astype(np.int64) + (1 << 40))
        reader = VideoReader(path, huge, kept=kept)
    else:
        at = int(table.group(1).offset[0])
        with path.open("r+b") as file:
            file.seek(at + 100)
            file.write(b"another")
    with pytest.raises(FrameError, match=r"v\.MP4: is not the file that was scanned"):
        reader.get_frames([45])


def test_a_failing_disk_keeps_its_class_and_the_next_try_opens_the_file_anew(video, monkeypatch):
    index, kept = build_index(video), Kept()
    reader, watched = VideoReader(video, index, kept=kept), VideoReader(video, index, watched=True)
    expected = reader.get_frames([40])

    def fails(descriptor: int, count: int, position: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fails)
        patched.setattr(watched_file, "RETRY_SECONDS", (0.0,))
        with pytest.raises(FrameError, match="reading at byte") as caught:
            reader.get_frames([40])
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EIO
        with pytest.raises(DiskError, match="failed 2 times"):
            watched.get_frames([40])
    assert len(kept.files) == 0
    assert np.array_equal(reader.get_frames([40]), expected)
    assert np.array_equal(watched.get_frames([40]), expected)
    assert kept.files.opened == 2


def test_a_file_without_recorded_colours_or_with_a_head_that_changes_is_read_as_before(video):
    index = build_index(video)
    arrays = index.to_arrays()
    assert VideoIndex.from_arrays(arrays).table.direct
    old = with_table(index, stream=replace(index.table.stream, colours=None)).to_arrays()
    old["stream"] = np.array(str(old["stream"]).replace(', "colours": null', ""))
    again = VideoIndex.from_arrays(old)
    assert not again.table.direct
    assert np.array_equal(
        VideoReader(video, again).get_frames([40]), VideoReader(video, index).get_frames([40])
    )


def without_reorder_limit(extradata: bytes) -> bytes:
    """Cut the end of the sequence parameter set off, as encoders that write no such notes do."""
    size = int.from_bytes(extradata[6:8], "big")
    coded = extradata[8 : 8 + size].replace(b"\0\0\3", b"\0\0")
    bits = h264.Bits(int.from_bytes(coded, "big"), 8 * len(coded))
    whole = bits.left
    bits.left = whole - h264.parse_sps(extradata[8 : 8 + size]).height_at[1]
    if not bits.u(1):  # clause 7.3.2.1.1: fields, direct_8x8_inference, cropping
        bits.u(1)
    bits.u(1)
    if bits.u(1):
        bits.ue(), bits.ue(), bits.ue(), bits.ue()
    coded_bits = f"{int.from_bytes(coded, 'big'):0{8 * len(coded)}b}"
    text = coded_bits[: whole - bits.left] + "01"
    text += "0" * (-len(text) % 8)
    unit = int(text, 2).to_bytes(len(text) // 8, "big")
    return extradata[:6] + len(unit).to_bytes(2, "big") + unit + extradata[8 + size :]


def test_no_picture_is_lost_where_a_stream_does_not_say_how_far_it_is_out_of_order(sound):
    index = build_index(sound["b_frames"])
    (extradata,) = index.table.sets
    silent = with_table(index, sets=[without_reorder_limit(extradata)])
    frames = range(index.frames)
    expected = VideoReader(sound["b_frames"], index.through_container()).get_frames(frames)
    assert np.array_equal(VideoReader(sound["b_frames"], silent).get_frames(frames), expected)
