import av
import pytest

from epic100.scan import h264
from epic100.scan.numbering import Numbering
from support.tricky_videos import encode


def packets_and_extradata(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [(p.pts, p.is_keyframe, bytes(p)) for p in container.demux(stream) if p.size]
        return packets, stream.codec_context.extradata


def headers(packets, settings, size):
    for _, is_key, data in packets:
        start, stop = next(
            u for u in h264.nal_units(data, size) if data[u[0]] & 31 in (h264.SLICE, h264.IDR)
        )
        yield h264.slice_header(data[start:stop][: h264.HEADER_BYTES], settings), is_key


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": (96, 64)}, (6, 4, True)),
        ({"size": (102, 58)}, (7, 4, True)),  # cropped to what is no multiple of 16
        ({"size": (96, 64), "tff": 1}, (6, 2, False)),  # map units of two rows
        ({"size": (640, 16), "count": 10}, (40, 1, True)),
        ({"size": (96, 64), "pix_fmt": "yuv444p"}, (6, 4, True)),
        ({"size": (96, 64), "cqm": "jvt"}, (6, 4, True)),  # with scaling lists
        ({"size": (96, 64), "cabac": 0, "bframes": 0, "8x8dct": 0}, (6, 4, True)),
    ],
    ids=["plain", "cropped", "interlaced", "wide", "444", "matrices", "main"],
)
def test_settings_are_read_off_what_x264_wrote(options, expected, tmp_path):
    _, extradata = packets_and_extradata(encode(tmp_path / "v.MP4", **{"count": 20} | options))
    settings, length_size = h264.read_extradata(extradata)
    assert (settings.width, settings.height, settings.progressive) == expected
    assert length_size == 4


@pytest.mark.parametrize("rows", [1, 7, 100, 1000])
def test_a_taller_picture_keeps_all_else_and_the_decoder_takes_it(rows, tmp_path):
    path = encode(tmp_path / "v.MP4", 20, cqm="jvt")
    packets, extradata = packets_and_extradata(path)
    taller = h264.taller_extradata(extradata, rows)
    before, after = h264.read_extradata(extradata)[0], h264.read_extradata(taller)[0]
    assert after.height == before.height + rows
    for name in ("width", "frame_num_bits", "poc_type", "poc_bits", "gaps_allowed", "progressive"):
        assert getattr(after, name) == getattr(before, name)
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = taller
    decoder.options = {"skip_bottom": str(rows)}
    frames = [f for _, _, data in packets for f in decoder.decode(av.Packet(data))]
    frames += decoder.decode(None)
    assert len(frames) == 20
    assert {(f.width, f.height) for f in frames} == {(96, 64 + 16 * rows)}
    assert not any(f.is_corrupt for f in frames)


def test_without_word_of_the_rows_below_every_taller_picture_is_corrupt(tmp_path):
    """The decoder does look whether a slice ends at the true end: the whole trick rests on it."""
    packets, extradata = packets_and_extradata(encode(tmp_path / "v.MP4", 20))
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoder.extradata = h264.taller_extradata(extradata, 3)
    frames = [f for _, _, data in packets for f in decoder.decode(av.Packet(data))]
    assert frames
    assert all(f.is_corrupt for f in frames)


@pytest.mark.parametrize(
    "options",
    [
        {"b-pyramid": "normal", "ref": 4},
        {"open-gop": 1, "b-pyramid": "normal"},
        {"slices": 4},
        {"bframes": 0, "keyint": 1000},
        {"weightp": 2, "weightb": 1},
    ],
    ids=["pyramid", "open", "slices", "no b-frames", "weighted"],
)
def test_numbers_of_a_sound_stream_go_on_and_give_the_order_of_showing(options, tmp_path):
    packets, extradata = packets_and_extradata(encode(tmp_path / "v.MP4", 150, **options))
    settings, size = h264.read_extradata(extradata)
    numbering, placed = Numbering(settings), []
    for (pts, _, _), (header, is_key) in zip(
        packets, headers(packets, settings, size), strict=True
    ):
        goes_on, order = numbering.follow(header, is_key)
        assert goes_on
        assert header.intra or not is_key
        placed.append((numbering.sequence, order, pts))
    placed.sort()
    assert [pts for _, _, pts in placed] == sorted(pts for pts, _, _ in packets)


def test_a_missing_reference_picture_breaks_the_numbers(tmp_path):
    packets, extradata = packets_and_extradata(encode(tmp_path / "v.MP4", 60, bframes=0))
    settings, size = h264.read_extradata(extradata)
    numbering = Numbering(settings)
    del packets[40]
    followed = [
        numbering.follow(header, is_key)[0] for header, is_key in headers(packets, settings, size)
    ]
    assert [n for n, goes_on in enumerate(followed) if not goes_on] == [40]


def test_units_must_tile_their_packet(tmp_path):
    packets, _ = packets_and_extradata(encode(tmp_path / "v.MP4", 20, slices=3))
    data = packets[5][2]
    assert len(h264.nal_units(data, 4)) == 3
    for broken in (data[:-1], data + b"\0", data[:3], b"\0" * 9, b"\xff" + data[1:]):
        assert h264.nal_units(broken, 4) is None
    assert h264.nal_units(b"", 4) == []


def test_no_sound_slice_holds_zeros_in_a_row_and_a_zeroed_one_does(tmp_path):
    packets, _ = packets_and_extradata(encode(tmp_path / "v.MP4", 60, qp=0))  # many bytes
    for _, _, data in packets:
        for start, stop in h264.nal_units(data, 4):
            assert not h264.has_forbidden_bytes(data[start:stop])
    slice_ = bytes([0x41]) + bytes(range(1, 200))
    assert not h264.has_forbidden_bytes(slice_ + b"\0\0\0\0")  # only behind its end
    assert not h264.has_forbidden_bytes(slice_ + b"\0\0\3\1" + slice_)  # as a coder writes it
    for block in (b"\0\0\0", b"\0\0\1", b"\0\0\2", bytes(500)):
        assert h264.has_forbidden_bytes(slice_ + block + slice_)


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\0\1\x67" + bytes(20), b"\1" + bytes(20)])
def test_what_is_no_avcc_record_is_refused(data):
    with pytest.raises(ValueError, match="avcC|parameter set|code"):
        h264.read_extradata(data)


def test_a_spoilt_parameter_set_is_refused_or_read_and_never_hangs(tmp_path):
    _, extradata = packets_and_extradata(encode(tmp_path / "v.MP4", 5))
    size = int.from_bytes(extradata[6:8], "big")
    for bit in range(8 * size):
        spoilt = bytearray(extradata)
        spoilt[8 + bit // 8] ^= 1 << bit % 8
        try:
            settings, _ = h264.read_extradata(bytes(spoilt))
            assert h264.read_extradata(h264.taller_extradata(bytes(spoilt), 5))[0].height == (
                settings.height + (5 if settings.progressive else 2)
            )
        except ValueError:
            continue
