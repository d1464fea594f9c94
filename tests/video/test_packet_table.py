import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.minikitchen.packet_damage import rewrite
from epic100.scan.worker import inspect
from epic100.video.deltas import BLOCK, Deltas
from epic100.video.index import PackedIndex, VideoIndex, build_index
from epic100.video.index_file import load_index, write_indexes
from epic100.video.packet_table import PacketTable, StreamFacts
from epic100.video.reader import FrameError, VideoReader
from support.tricky_videos import encode

FRAMES = 90


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("table") / "v.MP4", FRAMES, **{"b-pyramid": "normal"})


@pytest.mark.parametrize(
    "values",
    [
        [],
        [7],
        [7, 7],
        list(range(0, 1001 * 3 * BLOCK, 1001)),
        np.random.default_rng(0).integers(-(2**40), 2**40, 3 * BLOCK + 5).tolist(),
        np.cumsum(np.random.default_rng(1).integers(0, 60000, 2 * BLOCK)).tolist(),
        [-5, 2**40, -(2**62), 3],
    ],
)
def test_a_packed_sequence_gives_its_values_back_at_every_place(values):
    values = np.array(values, dtype=np.int64)
    packed = Deltas.of(values)
    arrays = {name: np.array(a) for name, a in packed.to_arrays("x").items()}
    for each in (packed, Deltas.from_arrays(arrays, "x")):
        assert len(each) == len(values)
        places = [p for p in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, len(values) - 1) if p >= 0]
        places = [p for p in places if p < len(values)]
        assert np.array_equal(each.at(places), values[places])
        for start in places:
            for stop in (start + 1, min(start + BLOCK + 3, len(values)), len(values)):
                assert np.array_equal(each.between(start, stop), values[start:stop])


def test_each_packet_is_found_by_its_place_in_the_file(video, sound):
    direct = {}
    for name, path in {"plain": video, **sound}.items():
        table = build_index(path).table
        assert table is not None
        direct[name] = table.direct
        everything = table.stretch(0, len(table))
        with av.open(str(path)) as container, path.open("rb") as file:
            packets = [p for p in container.demux(container.streams.best("video")) if p.size]
            for number, packet in enumerate(packets):
                assert everything.pts[number] == packet.pts
                dts = packet.pts if packet.dts is None else packet.dts
                assert everything.dts[number] == dts
                assert everything.size[number] == packet.size
                assert everything.shown[number] == (not packet.is_discard)
                if table.direct:
                    file.seek(int(everything.offset[number]))
                    assert file.read(packet.size) == bytes(packet), (name, number)
            keys = [n for n, p in enumerate(packets) if p.is_keyframe]
        assert table.key_packet.tolist() == keys
        assert table.frames.between(0, len(table.frames)).tolist() == build_index(path).pts.tolist()
    assert not direct.pop("matroska")  # its blocks have a head of their own
    assert all(direct.values()), direct


def test_a_group_runs_from_its_key_frame_to_the_next(video):
    index = build_index(video)
    table = index.table
    sizes = [len(table.group(key).size) for key in range(len(index.key_pts))]
    assert sizes == [30, 30, 30]
    assert table.group(1).pts[0] == index.key_pts[1]
    assert table.group(2).dts[0] == index.key_dts[2]


def test_a_decoder_given_the_table_s_packets_gives_the_reader_s_pictures(sound):
    for name in ("b_frames", "open_gop", "cut_start", "headers_in_stream", "hevc", "10_bit"):
        path = sound[name]
        index = build_index(path)
        table, wanted = index.table, index.frames // 2
        key = int(np.searchsorted(index.key_pts, index.pts[wanted], side="right")) - 1
        stop = len(table) if key + 1 == len(index.key_pts) else int(table.key_packet[key + 1]) + 3
        group = table.stretch(int(table.key_packet[key]), min(stop, len(table)))
        decoder = av.CodecContext.create(table.stream.codec, "r")
        decoder.extradata = table.sets[table.key_sets[key]]
        frames = []
        data = path.read_bytes()
        for offset, size, pts in zip(group.offset, group.size, group.pts, strict=True):
            packet = av.Packet(data[offset : offset + size])
            packet.pts = int(pts)
            frames += decoder.decode(packet)
        frames += decoder.decode(None)
        (found,) = [f for f in frames if f.pts == index.pts[wanted]]
        (expected,) = VideoReader(path, index).get_frames([wanted])
        assert np.array_equal(found.to_ndarray(format="rgb24"), expected), name


def test_the_scan_s_table_is_that_of_the_packets_alone(video, tmp_path):
    _, index = inspect(video, "v")
    write_indexes({"v": index}, tmp_path / "P01.index.npz")
    again, built = load_index(tmp_path / "P01.index.npz", "v"), build_index(video)
    for table in (again.table, index.table):
        for name, value in table.to_arrays().items():
            assert np.array_equal(value, built.table.to_arrays()[name]), name


def test_an_index_of_before_is_read_and_has_no_table(video, tmp_path):
    arrays = build_index(video).to_arrays("v/")
    names = ("v/steps", "v/key_pts", "v/key_dts", "v/time_base")
    old = {name: arrays[name] for name in names}
    np.savez_compressed(tmp_path / "P01.index.npz", **old)
    index = load_index(tmp_path / "P01.index.npz", "v")
    assert index.table is None
    reader = VideoReader(video, index)
    assert np.array_equal(reader.get_frames([40, 3]), VideoReader(video).get_frames([40, 3]))


@pytest.mark.parametrize("change", ["longer", "another of the same length"])
def test_another_file_than_the_one_scanned_is_an_error_and_never_other_frames(
    change, video, tmp_path
):
    index = build_index(video)
    path = Path(shutil.copy(video, tmp_path / "v.MP4"))
    if change == "longer":
        path.write_bytes(path.read_bytes() + b"\0\0\0\x10free" + bytes(8))
    else:
        data = bytearray(path.read_bytes())
        for key in range(3):
            at = int(index.table.group(key).offset[0]) + 500
            data[at] ^= 1
        path.write_bytes(data)
    with pytest.raises(FrameError, match=r"v\.MP4: is not the file that was scanned"):
        VideoReader(path, index).get_frames([50])


def test_twenty_million_packets_take_at_most_300_mb():
    """Of a camera: 10 kB a packet, sound in between, B-frames, a key frame every 250."""
    rng = np.random.default_rng(0)
    count = 200_000
    sizes = rng.gamma(2.0, 5000.0, count).astype(np.int64) + 70_000 * (np.arange(count) % 250 == 0)
    sound = np.where(np.arange(count) % 30 == 0, 9000, 0)
    offsets = np.cumsum(sizes + sound) - sizes
    dts = 1001 * np.arange(count)
    ahead = 1001 * np.tile([1, 4, 2, 0], count // 4)
    packets = np.stack([offsets, sizes, dts + ahead, dts, np.ones(count, np.int64)], axis=1)
    keys = np.arange(0, count, 250)
    table = PacketTable.pack(
        StreamFacts("h264", 1920, 1080, "yuv420p", Fraction(1, 60000)), packets, keys=keys,
        crcs=keys.astype(np.uint32), key_sets=keys * 0, sets=[b""], file_size=1, direct=True,
    )  # fmt: skip
    assert table.nbytes / count <= 300e6 / 20e6
    packed = PackedIndex.from_arrays(VideoIndex.from_table(table).to_arrays())
    assert packed.table.nbytes == table.nbytes
    assert packed.nbytes / count <= 300e6 / 20e6


def test_a_file_rewritten_without_its_table_s_packets_keeps_its_own_offsets(video, tmp_path):
    path = Path(shutil.copy(video, tmp_path / "v.MP4"))
    rewrite(path, lambda packets: packets, movflags="faststart")
    moved, first = build_index(path).table, build_index(video).table
    assert moved.offset.at([0]) > first.offset.at([0])
    assert np.array_equal(moved.size, first.size)


@pytest.mark.parametrize("length", [-1, 0, 3, 2**40])
def test_steps_that_claim_another_number_of_values_are_refused(length):
    arrays = Deltas.of(np.arange(5) ** 2).to_arrays("a")
    arrays["a_first"] = np.array([length, 0])
    with pytest.raises(ValueError, match=f"4 steps of {length} values"):
        Deltas.from_arrays(arrays, "a")
    equal = Deltas.of(np.arange(5)).to_arrays("a")
    equal["a_first"] = np.array([2**40, 0])  # of one step that all have
    with pytest.raises(ValueError, match="1 steps of"):
        Deltas.from_arrays(equal, "a")
