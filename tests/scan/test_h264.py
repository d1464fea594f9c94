"""What is read of H.264: settings, units and numbers."""

from dataclasses import replace

import pytest

from epic100.scan.h264 import parse_sps, taller
from epic100.scan.h264_stream import H264Stream
from epic100.video.nal import SPS, SetRecord
from support.damage import extradata_of
from support.tricky_videos import encode


def flipped(unit: bytes, bit: int) -> bytes:
    data = bytearray(unit)
    data[bit // 8] ^= 128 >> bit % 8
    return bytes(data)


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\0\1\x67" + bytes(20), b"\1" + bytes(20)])
def test_what_is_no_avcc_record_is_refused(data):
    with pytest.raises(ValueError):
        H264Stream(data)


def test_a_set_for_taller_pictures_keeps_all_else_and_a_spoilt_one_is_read_too_or_refused(tmp_path):
    extradata = extradata_of(encode(tmp_path / "v.MP4", 5, cqm="jvt"))
    (sps,) = SetRecord.of("h264", extradata).of_kind(SPS)
    read = 0
    for unit in (sps, *(flipped(sps, bit) for bit in range(8, 8 * len(sps)))):
        try:
            before, after = parse_sps(unit), parse_sps(taller(unit, 6))
        except ValueError:
            assert unit != sps
            continue
        higher = before.height + (6 if before.progressive else 3)
        assert after == replace(before, height=higher, height_at=after.height_at)
        read += 1
    assert read > 100
