"""What is read of H.264: settings, units, numbers and slice headers."""

from dataclasses import replace

import pytest

from epic100.scan.damage import FORBIDDEN, Packet
from epic100.scan.h264 import INTRA, B, P, PictureSettings, StreamSettings, parse_sps, taller
from epic100.scan.h264_slice import SliceHeaders, slice_header
from epic100.scan.h264_stream import H264Stream, has_forbidden_bytes
from epic100.scan.worker import inspect
from epic100.video.nal import IDR, PPS, SLICE, SPS, SetRecord, code, nal_units, sized
from support.damage import extradata_of, flip, packets_of
from support.tricky_videos import encode

STREAM = StreamSettings(10, 6, 4, 0, 4, False, True, 1, False, False, (0, 0))
PICTURE = PictureSettings(True, False, (2, 1), (), True, False)


def units(path):
    """(packet, place in the file, bytes) of each slice of an MP4."""
    for packet in packets_of(path):
        place = packet.pos
        for unit in nal_units(bytes(packet), 4):
            place += 4
            if unit[0] & 31 in (SLICE, IDR):
                yield packet, place, unit
            place += len(unit)


def flipped(unit: bytes, bit: int) -> bytes:
    data = bytearray(unit)
    data[bit // 8] ^= 128 >> bit % 8
    return bytes(data)


def test_zeros_in_a_row_inside_a_slice_are_what_no_coder_writes():
    slice_ = bytes([0x41]) + bytes(range(1, 200))
    assert not has_forbidden_bytes(slice_ + b"\0\0\0\0")  # only behind its end
    assert not has_forbidden_bytes(slice_ + b"\0\0\3\1" + slice_)  # as a coder writes it
    for block in (b"\0\0\0", b"\0\0\1", b"\0\0\2", bytes(500)):
        assert has_forbidden_bytes(slice_ + block + slice_)


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\0\1\x67" + bytes(20), b"\1" + bytes(20)])
def test_what_is_no_avcc_record_is_refused(data):
    with pytest.raises(ValueError, match="avcC"):
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


def a_slice(kind: int, lists: str, first: int = 0x01, fill: str = "1") -> bytes:
    """A slice that is no reference; `lists` has its bits between order count and quantiser."""
    bits = code(0) + code(kind) + code(0) + "0011" + "0100" + lists
    bits += code(0) if kind != INTRA else ""
    bits += code(0) if len(bits) % 8 == 0 else code(3)  # the header must not fill its last byte
    bits += code(0) * 3
    bits += fill * (-len(bits) % 8) + "01100101" * 40
    return bytes([first]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def is_regular(nal: bytes, settings: PictureSettings = PICTURE, number: int = 0) -> bool:
    return slice_header(nal, STREAM, {number: settings}).is_regular


@pytest.mark.parametrize(
    "options",
    [
        {"b-pyramid": "normal", "ref": 8},
        {"open-gop": 1, "bframes": 5, "direct": "auto"},
        {"slices": 4, "weightp": 2, "weightb": 1},
        {"tff": 1, "weightb": 1, "ref": 4},
        {"bff": 1, "bframes": 0},
        {"pix_fmt": "yuv444p"},
        {"pix_fmt": "gray"},
        {"pix_fmt": "yuv420p10le", "b-pyramid": "strict"},
        {"intra-refresh": 1, "deblock": "-3,2"},
        {"bframes": 0, "no-deblock": 1, "keyint": 1000},
        {"cabac": 0, "slices": 3},
        {"nal-hrd": "vbr", "vbv-maxrate": 500, "vbv-bufsize": 500, "bluray-compat": 1},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_header_that_x264_writes_is_regular(options, tmp_path):
    path = encode(tmp_path / "v.MP4", 90, **options)
    stream = H264Stream(extradata_of(path))
    found = [slice_header(nal, stream.settings, stream.pictures) for _, _, nal in units(path)]
    assert len(found) >= 90
    assert all(header.is_regular for header in found)
    assert inspect(path, "v")[0].status == "ok"


def test_what_the_standard_forbids_is_not_regular():
    plain, moves = "0" + "0", code(0) + code(1)
    assert is_regular(a_slice(P, plain))
    assert is_regular(a_slice(P, "0" + "1" + moves + code(3)))
    assert is_regular(a_slice(B, "1" + "0" + "00"))
    assert is_regular(a_slice(INTRA, "", first=0x01))
    assert not is_regular(a_slice(P, plain, fill="0")), "zeros where ones must be"
    endless = a_slice(P, "0" + "1" + code(3))
    assert not is_regular(endless), "a list that moves nothing"
    assert is_regular(endless, number=1), "slices of an unknown set are left to the decoder"
    assert not is_regular(a_slice(P, "0" + "1" + 3 * moves + code(3))), "more moves than references"
    assert not is_regular(a_slice(P, "1" + code(40) + "0")), "41 references"
    assert not is_regular(a_slice(P, plain, first=0x65)), "a key frame that refers to others"


def test_a_header_longer_than_usual_is_read_to_its_end():
    weighted = PictureSettings(True, False, (16, 16), (P,), True, False)
    table = code(5) + code(5) + ("1" + code(60) + code(9) + "1" + 4 * code(30)) * 16
    assert is_regular(a_slice(P, "0" + "0" + table), weighted)
    assert not is_regular(a_slice(P, "0" + "0" + table, fill="0"), weighted)


def pictures_that_begin(path, head: str, then: str = ""):
    """(number, place, bit behind the order count, bytes) of slices with these bits."""
    stream = H264Stream(extradata_of(path)).settings
    at = len(head) + stream.frame_num_bits + stream.poc_bits
    for number, (_, place, nal) in enumerate(units(path)):
        bits = "".join(f"{byte:08b}" for byte in nal[1:20])
        if bits.startswith(head) and bits[at:].startswith(then):
            yield number, place, 8 + at, nal


def test_an_emptied_list_of_references_is_found_where_the_decoder_is_content(tmp_path):
    """As found by benchmarks/damage.py: five pictures were others, in a file called `ok`."""
    path = encode(tmp_path / "v.MP4", 180, size=(160, 96), pix_fmt="yuv420p10le", seed=1)
    assert inspect(path, "v")[0].status == "ok"
    list_ = "0" + "1" + code(0) + code(1) + code(3)  # another picture first; then the end
    found = pictures_that_begin(path, code(0) + code(5) + code(0), list_)
    number, place, bit, _ = next(each for each in found if each[0] > 20)
    flip(path, place, bit + 2)  # the first code of the list becomes its end
    row, _ = inspect(path, "v")
    assert (row.status, row.reason) == ("damaged", f"1 {FORBIDDEN}")
    assert row.damaged[0][0] == number


@pytest.mark.parametrize("options", [{}, {"cabac": 0}], ids=["CABAC", "CAVLC"])
def test_a_b_picture_that_alone_predicts_otherwise_is_damaged(options, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, **options)
    found = list(pictures_that_begin(path, code(0) + code(6) + code(0)))
    pictures = [(place, bit) for _, place, bit, nal in found if not nal[0] & 0x60]
    flip(path, *pictures[len(pictures) // 2])
    row, _ = inspect(path, "v")
    assert row.reason == f"1 {FORBIDDEN}"
    assert [stop - start for start, stop in row.damaged] == [1]


def test_a_header_that_is_known_by_its_bytes_is_the_one_that_would_be_read(tmp_path):
    path = encode(tmp_path / "v.MP4", 60, bframes=3)
    stream, slices = H264Stream(extradata_of(path)), [nal for _, _, nal in units(path)]
    (pps,) = SetRecord.of("h264", extradata_of(path)).of_kind(PPS)
    others = [flipped(pps, bit) for bit in range(11, 20)]  # other numbers of references, weights
    for picture in (pps, *others):
        stream.examine(sized(picture, 4), b"", Packet(0, 0, False, True))
        for nal in slices * 2:
            for unit in (nal, *(flipped(nal, bit) for bit in (8, 13, 20, 30, 40))):
                read = slice_header(unit, stream.settings, stream.pictures)
                assert stream.header(unit) == read


def blamed(nals: list[bytes]) -> list[bool]:
    """Which of the packets are blamed, with one slice each."""
    packets = [Packet(n, n, False, True) for n in range(len(nals))]
    checked = SliceHeaders()
    for nal, packet in zip(nals, packets, strict=True):
        checked.add(slice_header(nal, STREAM, {0: PICTURE}), packet)
    checked.blame()
    return [bool(p.fault) for p in packets]


def test_a_coder_that_fills_with_zeros_is_odd_and_no_damage():
    good, odd = (a_slice(P, "00", fill=fill) for fill in "10")
    assert blamed([good, odd] * 30) == [False] * 60
    assert blamed([good] * 30 + [odd] + [good] * 10) == [False] * 30 + [True] + [False] * 10


def test_a_coder_that_changes_its_mind_is_not_blamed():
    usual, other = (a_slice(B, choice + "0" + "00") for choice in "10")
    for nals in (
        [other, other, usual, other, *[usual] * 500],  # before it has settled
        [usual] * 500 + [other] * 20 + [usual] * 500,
        ([usual] * 12 + [other]) * 20,
    ):
        assert not any(blamed(nals))
    assert sum(blamed([usual] * 50 + [other] + [usual] * 50)) == 1
