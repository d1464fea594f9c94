"""One spoilt bit in a parameter set: the decoder gives other pictures and reports nothing."""

from pathlib import Path

import pytest

from epic100.minikitchen.damage import coded_data
from epic100.scan import scan_participant
from epic100.scan.parameter_checks import spoilt_sets
from epic100.video.index import build_index
from epic100.video.sheet import Video
from support.tricky_videos import RATE, encode

FRAMES = 60
WEIGHTED_BIPRED = 17  # bit of the PPS; its value is 2, and 3 is reserved


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[bytes]:
    """Of one camera: the same settings, other pictures."""
    folder = tmp_path_factory.mktemp("films")
    return [encode(folder / f"{n}.MP4", FRAMES, seed=n).read_bytes() for n in range(4)]


def spoil(film: bytes, path: Path, kind: str, bit: int) -> None:
    """Flip one bit of a parameter set in the file's head."""
    path.write_bytes(film)
    data = bytearray(film)
    at = data.index(b"avcC", *coded_data(path, "moov")) + 4 + 6
    size = int.from_bytes(data[at : at + 2], "big")
    at += 2
    if kind == "PPS":
        at += size + 3
    data[at + bit // 8] ^= 0x80 >> (bit % 8)
    path.write_bytes(data)


def scan(folder: Path, films: list[bytes], spoilt=None):
    videos = [
        Video(f"P01_{n:02d}", "P01", "train", float(RATE), float(FRAMES / RATE))
        for n in range(len(films))
    ]
    for video, film in zip(videos, films, strict=True):
        path = video.path(folder)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(film)
    if spoilt:
        spoil(films[1], videos[1].path(folder), *spoilt)
    return scan_participant(videos, folder, folder / "P01.tsv", folder / "P01.index.npz")


@pytest.mark.parametrize("spoilt", [("PPS", 16), ("PPS", 20), ("SPS", 71), ("SPS", 93)])
def test_a_spoilt_bit_is_found_by_the_participant_s_other_videos(spoilt, films, tmp_path):
    rows = scan(tmp_path, films, spoilt)
    assert [row.status for row in rows[:1] + rows[2:]] == ["ok"] * 3
    bad = rows[1]
    assert bad.status in ("damaged", "unreadable")
    assert bad.status == "unreadable" or bad.damaged == [(0, bad.pictures)]
    if bad.status == "damaged":
        assert "its parameter sets are spoilt: 1 bit differs from those of 3 other videos" in (
            bad.reason
        )
    assert scan(tmp_path, films)[1].status == "ok"  # and nothing of it is kept


def test_videos_of_several_settings_are_sound(films, tmp_path):
    other = encode(tmp_path / "other.MP4", FRAMES, cabac=0, ref=1).read_bytes()
    assert {row.status for row in scan(tmp_path, [*films[:3], other])} == {"ok"}


def test_one_other_video_is_no_witness(films, tmp_path):
    rows = scan(tmp_path, films[:2], ("PPS", 22))  # constrained_intra_pred
    assert "parameter sets" not in rows[0].reason + rows[1].reason


@pytest.mark.parametrize(("kind", "bit"), [("SPS", 67), ("SPS", 93), ("PPS", WEIGHTED_BIPRED + 1)])
def test_a_set_that_ends_amiss_or_has_a_reserved_value_is_found_alone(kind, bit, films, tmp_path):
    path = tmp_path / "P01" / "P01_00.MP4"
    path.parent.mkdir()
    spoil(films[0], path, kind, bit)
    video = Video("P01_00", "P01", "train", float(RATE), float(FRAMES / RATE))
    (row,) = scan_participant([video], tmp_path, tmp_path / "t.tsv", tmp_path / "t.index.npz")
    assert (row.status, row.damaged) == ("damaged", [(0, FRAMES)])
    assert "its parameter sets are spoilt: one does not end where it must" in row.reason


def test_no_set_of_a_sound_file_ends_amiss(sound):
    indexes = {name: build_index(path) for name, path in sound.items()}
    alone = {name: spoilt_sets({name: index}) for name, index in indexes.items()}
    assert not [name for name, found in alone.items() if found]
