"""The video sheet, the choice of participants, and the search for the files of videos."""

from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.video.sheet import (
    Video,
    find_files,
    found_instead,
    on_disk_lines,
    participants_of,
    read_sheet,
)

ROOT = Path(__file__).resolve().parents[2]
HEADER = "video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5\n"
MD5 = "0123456789abcdef" * 2
ROW = f"P01_01\tP01\ttrain\t59.94\t40.5\thttps://x/P01_01.MP4\t{MD5}\n"


@pytest.fixture
def sheet(tmp_path):
    """A function that reads a sheet with this text."""
    path = tmp_path / "videos.tsv"

    def read(text):
        path.write_text(text, encoding="utf-8")
        return read_sheet(path)

    return read


def test_columns_may_have_any_order(sheet):
    video = Video("P01_01", "P01", "train", 59.94, 40.5, "https://x/P01_01.MP4", MD5)
    assert sheet(HEADER + ROW) == [video]
    assert video.path("videos") == Path("videos/P01/P01_01.MP4")
    # The column `note` is no part of a sheet, and `url` and `md5` may be absent.
    text = "fps\tnote\tduration\tsplit\tparticipant_id\tvideo_id\n50\tsunny\t9\tval\tP02\tP02_101\n"
    assert sheet(text) == [Video("P02_101", "P02", "val", fps=50.0, duration=9.0)]


@pytest.mark.parametrize(
    ("name", "least"), [("videos.tsv", 700), ("demo_videos.tsv", 8)], ids=["EPIC", "demo"]
)
def test_each_sheet_of_the_repository_is_complete(name, least):
    videos = read_sheet(ROOT / "config" / name)
    assert len(videos) >= least
    assert all(video.video_id.startswith(f"{video.participant_id}_") for video in videos)
    assert {video.split for video in videos} == {"train", "val", "test"}


def row_with(old: str, new: str) -> str:
    """A sheet of one row in which a text is replaced."""
    return HEADER + ROW.replace(old, new)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER, r"no rows; expected one row a video"),
        ("", r"line 1: column video_id, .* missing .*tab-separated video_id participant_id"),
        (HEADER.replace("fps", "rate") + ROW, r"line 1: column fps missing .*`videos: sheet:`"),
        (HEADER.replace("\t", ",") + ROW, r"line 1: column video_id, .*tab-separated"),
        (HEADER + ROW + "\n" + ROW, r"line 4: video_id P01_01 is on line 2 already; .*remove one"),
        (row_with("59.94", "fast"), r"line 2: fps is 'fast'; expected a positive number"),
        (row_with("59.94", "0"), r"line 2: fps is '0'; expected a positive number"),
        (row_with("59.94", "nan"), r"line 2: fps is 'nan'; expected a positive number"),
        (
            row_with("40.5", "-3"),
            r"line 2: duration is '-3'; .* number of seconds",
        ),
        (
            row_with("40.5", "inf"),
            r"line 2: duration is 'inf'; .* number of seconds",
        ),
        (row_with("train", "Train"), r"line 2: split is 'Train'; .*train, val, test"),
        (HEADER + "P01_01\tP01\n", r"line 2: split is ''; expected one of train, val, test"),
        (row_with("P01_01\t", "P01 01\t"), r"line 2: video_id is 'P01 01'; .*letters"),
        (row_with("P01_01\t", "a/b\t"), r"line 2: video_id is 'a/b'; .*letters"),
        (row_with("\tP01\t", "\t\t"), r"line 2: participant_id is ''; expected a name"),
    ],
)
def test_an_invalid_sheet_has_line_and_column(sheet, text, words):
    with pytest.raises(EpicError, match=rf"videos\.tsv: {words}"):
        sheet(text)


# In this order the participants have their first row in the sheet: P22, P01, P07.
VIDEOS = [Video(f"{p}_01", p, "train", 50.0, 9.0) for p in ("P22", "P01", "P22", "P07")]


@pytest.mark.parametrize(
    ("exclude", "include", "chosen"),
    [
        ([], [], ["P22", "P01", "P07"]),
        (["P01"], [], ["P22", "P07"]),
        ([], ["P07", "P22"], ["P22", "P07"]),
        (["P22"], ["P07", "P22"], ["P07"]),
    ],
)
def test_participants_are_included_unless_excluded(exclude, include, chosen):
    assert participants_of(VIDEOS, exclude, include) == chosen


@pytest.mark.parametrize(
    ("exclude", "include", "words"),
    [
        (["P02"], [], "participants.exclude names P02, .*does not have.*P22, P01, P07"),
        ([], ["P02"], "participants.include names P02, .*P22, P01, P07"),
        (["P07"], ["P07"], "exclude and .include leave nobody"),
    ],
)
def test_unknown_or_no_participants_are_an_error(exclude, include, words):
    with pytest.raises(EpicError, match=words):
        participants_of(VIDEOS, exclude, include)


def put(folder, *names):
    """Make empty files of these names below a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("root", "files", "found"),
    [
        pytest.param("", ["P01/P01_01.mp4"], "P01/P01_01.mp4", id="other suffix"),
        pytest.param("", ["P01/videos/P01_01.Mp4"], "P01/videos/P01_01.Mp4", id="as EPIC has it"),
        pytest.param("", ["P01_01.mp4"], "P01_01.mp4", id="all in one folder"),
        pytest.param(
            "",
            ["P01_01.MP4", "P01/videos/P01_01.MP4", "P01/P01_01.mp4", "P01/P01_01.MP4"],
            "P01/P01_01.MP4",
            id="the first of several places",
        ),
        pytest.param("", ["P01/p01_01.MP4", "P1/notes"], "P01/P01_01.MP4", id="none is there"),
        pytest.param(
            "x/{participant}-{video}_s.mkv",
            ["x/P01-P01_01_s.MKV"],
            "x/P01-P01_01_s.MKV",
            id="pattern",
        ),
        pytest.param("x/{video}.mkv", [], "x/P01_01.mkv", id="pattern of no file"),
    ],
)
def test_a_video_is_found_in_each_layout(root, files, found, tmp_path):
    put(tmp_path, *files)
    listed = Path("P01/P01_01.MP4")
    assert find_files([listed], tmp_path / root) == {listed: tmp_path / found}


def test_an_absolute_path_needs_no_root(tmp_path):
    put(tmp_path, "x/any.MKV")
    listed = str(tmp_path / "x/any.mkv")
    assert find_files([listed], "videos") == {listed: tmp_path / "x/any.MKV"}


def test_a_folder_without_videos_is_described(tmp_path):
    assert found_instead(tmp_path / "none") == "no such folder"
    assert found_instead(tmp_path) == "no file in it"
    put(tmp_path, *(f"notes/{n}.txt" for n in range(9)), "E/P01/P01_01.avi")
    assert found_instead(tmp_path).startswith("no video of the sheet, but E/P01/P01_01.avi, notes/")


# Each split has its videos. P03 has one of each.
ON_SHEET = [
    Video("P01_01", "P01", "train", 50.0, 9.0),
    Video("P01_02", "P01", "train", 50.0, 9.0),
    Video("P02_01", "P02", "train", 50.0, 9.0),
    Video("P03_01", "P03", "train", 50.0, 9.0),
    Video("P03_02", "P03", "val", 50.0, 9.0),
]


@pytest.mark.parametrize(
    ("on_disk", "lines"),
    [
        pytest.param(
            {"P01_02", "P02_01"},
            [
                "videos: 2 of the 5 videos of the sheet are there",
                "  train: 2 of 4 (all of P02, 1 of 2 of P01, none of P03)",
                "  val: 0 of 1 (none of P03)",
            ],
            id="some",
        ),
        pytest.param(
            {video.video_id for video in ON_SHEET},
            ["videos: all 5 videos of the sheet are there"],
            id="all",
        ),
        pytest.param(set(), ["videos: none of the 5 videos of the sheet are there"], id="none"),
    ],
)
def test_videos_are_counted_by_split_if_mixed(on_disk, lines):
    assert list(on_disk_lines(ON_SHEET, on_disk, "videos")) == lines
