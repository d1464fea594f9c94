import av
import numpy as np
import pytest

from epic100.scan.worker import inspect
from epic100.video.index import build_index
from epic100.video.parameter_sets import ParameterSets
from epic100.video.reader import VideoReader
from support.tricky_videos import encode, join, other_settings


def from_the_start(path) -> np.ndarray:
    """All pictures of one pass, by one decoder, from the first to the last."""
    with av.open(str(path)) as container:
        frames = {f.pts: f.to_ndarray(format="rgb24") for f in container.decode(video=0)}
    return np.stack([frames[pts] for pts in build_index(path).pts.tolist()])


def test_what_was_read_before_never_changes_frames(tmp_path):
    path = other_settings(tmp_path, tmp_path / "v.MP4")
    row, index = inspect(path, "v")
    assert row.status == "ok"
    expected = from_the_start(path)
    reader = VideoReader(path, index)
    for frame in np.random.default_rng(0).permutation(index.frames).tolist():
        assert np.array_equal(reader.get_frames([frame])[0], expected[frame]), frame


def test_hevc_too(tmp_path):
    parts = []
    for n, own in enumerate(({"amp": 0, "sao": 0}, {"ref": 1, "range": "full"})):
        part, own = tmp_path / f"{n}.MP4", {"repeat-headers": n, **own}
        parts.append(encode(part, 40, seed=n, codec="libx265", x265=own))
    path = join(parts, tmp_path / "v.MP4")
    _, index = inspect(path, "v")
    assert len(set(index.table.key_sets.tolist())) == 2
    expected, reader = from_the_start(path), VideoReader(path, index)
    for frame in (70, 5, 50, 20):
        assert np.array_equal(reader.get_frames([frame])[0], expected[frame]), frame


def test_a_stream_with_one_set_has_one_collection_wherever_its_sets_stand(sound):
    for name in ("b_frames", "headers_in_stream", "cavlc", "hevc", "mpeg4", "matroska"):
        table = build_index(sound[name]).table
        assert len(table.sets) == 1, name
        assert not table.key_sets.any()


@pytest.mark.parametrize("kind", ["b_frames", "hevc"])
def test_a_collection_is_extradata_that_a_decoder_takes(kind, sound):
    with av.open(str(sound[kind])) as container:
        stream = container.streams.video[0]
        name, extradata = stream.codec_context.name, bytes(stream.codec_context.extradata)
    sets = ParameterSets(name, extradata)
    rebuilt = sets._extradata()
    assert ParameterSets(name, rebuilt)._state() == sets._state() != ()
    with av.open(str(sound[kind])) as container:
        packets = [p for p in container.demux(video=0) if p.size][:10]
        decoder = av.CodecContext.create(name, "r")
        decoder.extradata = rebuilt
        frames = [f for p in [*packets, None] for f in decoder.decode(p)]
    assert len(frames) == 10
    assert not any(f.is_corrupt for f in frames)


def test_cut_or_spoilt_settings_are_no_error(sound):
    with av.open(str(sound["b_frames"])) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata)
    for stop in range(len(extradata)):
        ParameterSets("h264", extradata[:stop])
    with av.open(str(sound["hevc"])) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata)
    for stop in range(len(extradata)):
        ParameterSets("hevc", extradata[:stop])
