import av
import pytest

from epic100.scan import h264
from epic100.scan.h264_slice import PictureSettings, SliceHeaders, habit_of, parse_pps
from epic100.scan.packet_checks import FORBIDDEN, Packet
from epic100.scan.worker import inspect
from epic100.video.scan_table import DAMAGED, OK
from support.tricky_videos import encode

STREAM = h264.StreamSettings(10, 6, 4, 0, 4, False, True, False, True, False, (0, 0))
PICTURE = PictureSettings(True, False, (2, 1), (), True, False)
P, B, INTRA = range(3)


def code(value: int) -> str:
    """Exp-Golomb code, clause 9.1."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def a_slice(kind: int, lists: str, first: int = 0x01, fill: str = "1") -> bytes:
    """A slice that is no reference; `lists` has its bits between order count and quantiser."""
    bits = code(0) + code(kind) + code(0) + "0011" + "0100" + lists
    bits += code(0) if kind != INTRA else ""
    bits += code(0) if len(bits) % 8 == 0 else code(3)  # the header must not fill its last byte
    bits += code(0) * 3
    bits += fill * (-len(bits) % 8) + "01100101" * 40
    return bytes([first]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def is_regular(nal: bytes) -> bool:
    return habit_of(nal, STREAM, {0: PICTURE}) is not None


def slices_of(path):
    """(place in the file, bytes) of each slice of an MP4, and its extradata."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [(p.pos, bytes(p)) for p in container.demux(stream) if p.size]
        extradata = stream.codec_context.extradata
    found = [
        (place + start, data[start:stop])
        for place, data in packets
        for start, stop in h264.nal_units(data, 4)
        if data[start] & 31 in (h264.SLICE, h264.IDR)
    ]
    return found, extradata


def flip(path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place + bit // 8] ^= 0x80 >> bit % 8
    path.write_bytes(data)


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
    found, extradata = slices_of(encode(tmp_path / "v.MP4", 90, **options))
    stream, _ = h264.read_extradata(extradata)
    sets = dict(map(parse_pps, h264.extradata_pps(extradata)))
    habits = [habit_of(nal, stream, sets) for _, nal in found]
    assert len(habits) >= 90
    assert None not in habits
    assert inspect(tmp_path / "v.MP4", "v")[0].status == OK


def test_what_the_standard_forbids_is_not_regular():
    plain, moves = "0" + "0", code(0) + code(1)
    assert is_regular(a_slice(P, plain))
    assert is_regular(a_slice(P, "0" + "1" + moves + code(3)))
    assert is_regular(a_slice(B, "1" + "0" + "00"))
    assert is_regular(a_slice(INTRA, "", first=0x01))
    assert not is_regular(a_slice(P, plain, fill="0")), "zeros where ones must be"
    assert not is_regular(a_slice(P, "0" + "1" + code(3))), "a list that moves nothing"
    assert not is_regular(a_slice(P, "0" + "1" + 3 * moves + code(3))), "more moves than references"
    assert not is_regular(a_slice(P, "1" + code(40) + "0")), "41 references"
    assert not is_regular(a_slice(P, plain, first=0x65)), "a key frame that refers to others"


def test_a_header_longer_than_usual_is_read_to_its_end():
    weighted = PictureSettings(True, False, (16, 16), (P,), True, False)
    table = code(5) + code(5) + ("1" + code(60) + code(9) + "1" + 4 * code(30)) * 16
    for fill in ("1", "0"):
        nal = a_slice(P, "0" + "0" + table, fill=fill)
        assert (habit_of(nal, STREAM, {0: weighted}) is not None) == (fill == "1")


def test_slices_of_an_unknown_set_are_left_to_the_decoder():
    assert habit_of(a_slice(P, "0" + "1" + code(3)), STREAM, {1: PICTURE}) is not None


def test_an_emptied_list_of_references_is_found_where_the_decoder_is_content(tmp_path):
    """As found by benchmarks/damage.py: five pictures were others, in a file called `ok`."""
    path = encode(tmp_path / "v.MP4", 180, size=(160, 96), pix_fmt="yuv420p10le", seed=1)
    found, extradata = slices_of(path)
    stream, _ = h264.read_extradata(extradata)
    head = code(0) + code(5) + code(0)
    at = len(head) + stream.frame_num_bits + stream.poc_bits
    list_ = "0" + "1" + code(0) + code(1) + code(3)  # another picture first; then the end

    def begins(nal: bytes) -> bool:
        bits = "".join(f"{byte:08b}" for byte in nal[1:20])
        return bits.startswith(head) and bits[at:].startswith(list_)

    number, place = next((n, p) for n, (p, nal) in enumerate(found) if begins(nal) and n > 20)
    assert inspect(path, "v")[0].status == OK
    flip(path, place, 8 + at + 2)  # the first code of the list becomes its end
    row, _ = inspect(path, "v")
    assert row.status == DAMAGED
    assert row.reason == f"1 {FORBIDDEN}"
    assert row.damaged[0][0] == number


@pytest.mark.parametrize("options", [{}, {"cabac": 0}], ids=["CABAC", "CAVLC"])
def test_a_b_picture_that_alone_predicts_otherwise_is_damaged(options, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, **options)
    found, extradata = slices_of(path)
    stream, _ = h264.read_extradata(extradata)
    head = code(0) + code(6) + code(0)
    at = len(head) + stream.frame_num_bits + stream.poc_bits
    pictures = [p for p, nal in found if f"{nal[1]:08b}".startswith(head) and not nal[0] & 0x60]
    flip(path, pictures[len(pictures) // 2], 8 + at)
    row, _ = inspect(path, "v")
    assert row.reason == f"1 {FORBIDDEN}"
    assert [stop - start for start, stop in row.damaged] == [1]


def _checked(nals: list[bytes]) -> list[bool]:
    """Which of the packets are blamed, with one slice each."""
    packets = [Packet(n, n, False, True) for n in range(len(nals))]
    headers = SliceHeaders(b"")
    headers._sets = {0: PICTURE}
    for nal, packet in zip(nals, packets, strict=True):
        headers.check(nal, STREAM, packet)
    headers.blame()
    return [bool(p.fault) for p in packets]


def test_a_coder_that_fills_with_zeros_is_odd_and_no_damage():
    good, odd = (a_slice(P, "00", fill=fill) for fill in "10")
    assert _checked([good, odd] * 30) == [False] * 60
    assert _checked([good] * 30 + [odd] + [good] * 10) == [False] * 30 + [True] + [False] * 10


def test_a_coder_that_changes_its_mind_is_not_blamed():
    usual, other = (a_slice(B, choice + "0" + "00") for choice in "10")
    for nals in (
        [other, other, usual, other, *[usual] * 500],  # before it has settled
        [usual] * 500 + [other] * 20 + [usual] * 500,
        ([usual] * 12 + [other]) * 20,
    ):
        assert not any(_checked(nals))
    assert sum(_checked([usual] * 50 + [other] + [usual] * 50)) == 1
