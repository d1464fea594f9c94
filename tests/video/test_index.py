from fractions import Fraction

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.segments.annotations import frames_between
from epic100.video.index import VideoIndex, build_index
from epic100.video.index_file import load_index, write_indexes
from epic100.video.reader import VideoReader
from support.made_index import index_at
from support.packets import decoded
from support.scanned import inspect
from support.tricky_videos import encode


def test_a_hidden_key_frame_is_a_place_to_start_from_and_no_picture(sound):
    index = build_index(sound["cut_start"])
    assert index.frames < 120 - 30
    assert index.key_pts[0] < index.pts[0] == 0
    assert index.times[0] == 0


def test_the_scan_s_index_leaves_out_key_frames_that_are_none(sound):
    path = sound["intra_refresh"]
    _, index = inspect(path, "v")
    assert len(index.key_pts) == 1 < len(build_index(path).key_pts)
    (picture,) = VideoReader(path, index).get_frames([100])
    assert np.array_equal(picture, decoded(path)[int(index.pts[100])])


def test_rate_and_evenness_are_measured_and_a_gap_ends_evenness_only_behind_it(sound):
    even, uneven, one, paused = (
        build_index(sound[name]) for name in ("b_frames", "variable_rate", "one_picture", "paused")
    )
    assert even.is_constant() and not uneven.is_constant() and not paused.is_constant()
    # The gap is no part of the rate.
    for index in (even, paused):
        assert index.fps == pytest.approx(30000 / 1001, abs=1e-9)
    assert (one.frames, one.fps, one.is_constant()) == (1, 0.0, True)
    before = np.arange(paused.frames) <= 57
    assert paused.is_constant(before) and not paused.is_constant(~before)


def test_frames_between_seconds_agrees_with_the_annotations_rule_where_the_rate_is_constant():
    pts = np.arange(500) * 1001
    index = index_at(pts, Fraction(1, 60000))
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 7.8, 300)
    stop = np.minimum(start + rng.uniform(0.05, 3, 300), 8.3)
    ours, theirs = index.frames_between(start, stop), frames_between(start, stop, index.fps)
    assert np.array_equal(ours, theirs)


def test_frames_between_seconds_follows_the_pictures_where_the_rate_varies():
    index = index_at([0, 10, 20, 100, 110], Fraction(1, 10))
    start, stop = index.frames_between(np.array([0.5, 2.5, 10.5]), np.array([1.5, 9.0, 20.0]))
    assert start.tolist() == [0, 2, 3]
    assert stop.tolist() == [2, 3, 5]
    # These seconds are behind the last picture.
    assert index.frames_between(15.0, 16.0)[0] == 5


@pytest.mark.parametrize("pts", [[7], [7, 7], [-5, 2**40, -(2**62), 3]])
def test_arrays_give_the_same_packets_back_whatever_their_times(pts):
    index = index_at(pts, Fraction(1, 90000))
    arrays = {name: np.array(column) for name, column in index.to_arrays("P01_01/").items()}
    again = VideoIndex.from_arrays(arrays, "P01_01/")
    assert np.array_equal(again.packets, index.packets)
    assert (again.fps, again.stream, again.sets) == (index.fps, index.stream, index.sets)


@pytest.mark.parametrize("column, value, words", [
    ("frame", 3, r"not 0 to 2, the first is number 1"), ("frame", 0, "that is two frames"),
    ("frame", -1, r"\[frame\] hold .* not 0 to 2"), ("sets", 1, r"\[sets\] hold .* not -1 to 0"),
    ("shown", 0, "that is no picture"), ("shown", 2, r"\[shown\]"), ("offset", 3, r"\[end\]"),
    ("offset", -1, r"\[offset\]"), ("size", -1, r"\[size\]"), ("size", 3, r"\[end\] .* 3, "),
    ("pts", 2**62, r"\[pts\]"), ("pts", -1, "values do not rise"), ("dts", -(2**63), r"\[dts\]"),
])  # fmt: skip
def test_an_index_that_points_beyond_its_packets_is_refused(tmp_path, column, value, words):
    index = index_at([0, 1, 2], Fraction(1, 30))
    index.packets[column][1] = value
    write_indexes({"P01_01": index}, tmp_path / "P01.index.npz")
    with pytest.raises(EpicError, match=rf"not a whole frame index .*{words}"):
        load_index(tmp_path / "P01.index.npz", "P01_01")
    arrays = index_at([0, 1, 2], Fraction(1, 30)).to_arrays()
    with pytest.raises(ValueError, match="values for . packets"):
        VideoIndex.from_arrays(arrays | {column: arrays[column][:2]})
    for facts in ("{", "{}", "[]", str(arrays["stream"]).replace("colours", "colors")):
        with pytest.raises(EpicError, match="no frame index of this version"):
            VideoIndex.from_arrays(arrays | {"stream": np.array(facts)})


def test_twenty_million_packets_take_at_most_12_bytes_each_on_disk_and_40_in_memory(tmp_path):
    """Of a camera: 10 kB a packet, sound in between, B-frames, a key frame every 250."""
    rng, count = np.random.default_rng(0), 200_000
    index = index_at(np.arange(count), Fraction(1, 60000), every=250)
    packets = index.packets
    packets["size"] = rng.gamma(2.0, 5000.0, count) + 70_000 * (np.arange(count) % 250 == 0)
    sound = np.where(np.arange(count) % 30 == 0, 9000, 0)
    packets["offset"] = np.cumsum(packets["size"] + sound) - packets["size"]
    packets["dts"] = 1001 * np.arange(count)
    packets["pts"] = packets["dts"] + 1001 * np.tile([1, 4, 2, 0], count // 4)
    packets["frame"] = np.argsort(packets["pts"])
    packets["crc"] = np.where(packets["sets"] < 0, 0, rng.integers(0, 2**32, count))
    write_indexes({"P01_01": index}, tmp_path / "P01.index.npz")
    assert (tmp_path / "P01.index.npz").stat().st_size <= 12 * count
    assert packets.nbytes <= 40 * count


def test_a_text_tag_that_is_not_utf_8_costs_no_video(tmp_path):
    """Old cameras write such tags: "Küche" has one byte for its second letter in Latin-1."""
    path = encode(tmp_path / "v.MP4", 30)
    with av.open(str(path)) as source, av.open(str(tmp_path / "tag.MP4"), "w") as out:
        out.metadata["title"] = "K_che"
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    data = (tmp_path / "tag.MP4").read_bytes()
    assert data.count(b"K_che") == 1
    path.write_bytes(data.replace(b"K_che", "Küche".encode("latin-1")))
    assert build_index(path).frames == 30
    assert inspect(path, "v")[0].status == "ok"
