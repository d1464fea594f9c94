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


def sheet(tmp_path, text):
    path = tmp_path / "videos.tsv"
    path.write_text(text, encoding="utf-8")
    return read_sheet(path)


def test_a_row_becomes_a_video_whatever_the_order_and_number_of_its_columns(tmp_path):
    video = Video("P01_01", "P01", "train", 59.94, 40.5, "https://x/P01_01.MP4", MD5)
    assert sheet(tmp_path, HEADER + ROW) == [video]
    assert video.path("videos") == Path("videos/P01/P01_01.MP4")
    assert video.path() == Path("P01/P01_01.MP4")
    text = "fps\tnote\tduration\tsplit\tparticipant_id\tvideo_id\n50\tsunny\t9\tval\tP02\tP02_101\n"
    assert sheet(tmp_path, text) == [Video("P02_101", "P02", "val", 50.0, 9.0)]


@pytest.mark.parametrize("name, least", [("videos.tsv", 700), ("demo_videos.tsv", 8)])
def test_the_sheets_that_ship_are_sound(name, least):
    videos = read_sheet(ROOT / "config" / name)
    assert len(videos) >= least
    assert all(video.video_id.startswith(video.participant_id + "_") for video in videos)
    assert {video.split for video in videos} == {"train", "val", "test"}


@pytest.mark.parametrize(
    "text, words",
    [
        (HEADER, r"no rows; expected one row a video"),
        ("", r"line 1: column video_id, .* missing .*tab-separated video_id participant_id"),
        (HEADER.replace("fps", "rate") + ROW, r"line 1: column fps missing .*`videos: sheet:`"),
        (HEADER.replace("\t", ",") + ROW, r"line 1: column video_id, .*tab-separated"),
        (
            HEADER + ROW + "\n" + ROW,
            r"line 4: video_id P01_01 is on line 2 already; one row a video, remove one",
        ),
        (HEADER + ROW.replace("59.94", "fast"), r"line 2: fps is 'fast'; expected a positive num"),
        (HEADER + ROW.replace("59.94", "0"), r"line 2: fps is '0'; expected a positive number"),
        (HEADER + ROW.replace("59.94", "nan"), r"line 2: fps is 'nan'; expected a positive number"),
        (HEADER + ROW.replace("40.5", "-3"), r"line 2: duration is '-3'; expected a positive num"),
        (HEADER + ROW.replace("40.5", "inf"), r"line 2: duration is 'inf'; expected a positive"),
        (HEADER + ROW.replace("train", "Train"), r"line 2: split is 'Train'; .*train, val, test"),
        (HEADER + "P01_01\tP01\n", r"line 2: split is ''; expected one of train, val, test"),
        (HEADER + ROW.replace("P01_01\t", "P01 01\t"), r"line 2: video_id is 'P01 01'; .*letters"),
        (HEADER + ROW.replace("P01_01\t", "a/b\t"), r"line 2: video_id is 'a/b'; .*letters"),
        (
            HEADER + ROW.replace("\tP01\t", "\t\t"),
            r"line 2: participant_id is ''; expected a name",
        ),
    ],
)
def test_a_bad_sheet_is_one_error_with_file_line_and_column(tmp_path, text, words):
    with pytest.raises(EpicError, match=rf"videos\.tsv: {words}"):
        sheet(tmp_path, text)


def test_participants_come_in_the_sheets_order_those_included_less_those_left_out():
    videos = [Video(f"{p}_01", p, "train", 50.0, 9.0) for p in ("P22", "P01", "P22", "P07")]
    assert participants_of(videos, []) == ["P22", "P01", "P07"]
    assert participants_of(videos, ["P01"]) == ["P22", "P07"]
    assert participants_of(videos, [], ["P07", "P22"]) == ["P22", "P07"]
    assert participants_of(videos, ["P22"], ["P07", "P22"]) == ["P07"]
    for sets, words in (
        ([["P02"]], "P02.*does not have.*P22, P01, P07"),
        ([[], ["P02"]], "participants.include names P02, .*P22, P01, P07"),
        ([["P07"], ["P07"]], "exclude and .include leave nobody"),
    ):
        with pytest.raises(EpicError, match=words):
            participants_of(videos, *sets)


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_video_is_found_in_each_layout_by_its_first_place_or_by_a_pattern(tmp_path):
    videos = [Video(f"P0{n}_01", f"P0{n}", "train", 50.0, 9.0) for n in range(1, 7)]
    found = [
        "P01/P01_01.MP4",
        "P02/P02_01.mp4",
        "P03/videos/P03_01.Mp4",
        "P04_01.mp4",
        "P05/P05_01.MP4",
        "P06/P06_01.MP4",
    ]
    later = ["P01/P01_01.mp4", "P01/videos/P01_01.MP4", "P01_01.MP4", "P05/p05_01.MP4", "P6/notes"]
    put(tmp_path, *found[:5], *later)
    (tmp_path / "P06").symlink_to("nowhere")
    paths = [video.path() for video in videos]
    assert find_files(paths, tmp_path) == {
        path: tmp_path / name for path, name in zip(paths, found, strict=True)
    }
    assert videos[2].file(tmp_path) == tmp_path / found[2]
    listed = [path.as_posix() for path in paths]
    assert find_files(listed, tmp_path)[listed[1]] == tmp_path / found[1]
    put(tmp_path, "x/P01-P01_01_s.MKV")
    # A list of somebody else may have paths of its own.
    other = str(tmp_path / "x/P01-P01_01_s.mkv")
    assert find_files([other], "videos") == {other: tmp_path / "x/P01-P01_01_s.MKV"}
    pattern = tmp_path / "x/{participant}-{video}_s.mkv"
    names = [path.name for path in find_files(paths[:2], pattern).values()]
    assert names == ["P01-P01_01_s.MKV", "P02-P02_01_s.mkv"]


def test_where_no_video_is_found_it_is_said_what_is_there_films_first(tmp_path):
    assert found_instead(tmp_path / "none") == "no such folder"
    assert found_instead(tmp_path) == "no file in it"
    put(tmp_path, *(f"notes/{n}.txt" for n in range(9)), "E/P01/P01_01.avi")
    assert found_instead(tmp_path).startswith("no video of the sheet, but E/P01/P01_01.avi, notes/")


def test_what_is_on_the_disk_is_counted_by_split_and_participant_and_all_or_nothing_is_one_line():
    videos = [
        Video(name, name[:3], split, 50.0, 9.0)
        for split, names in (("train", "P01_01 P01_02 P02_01 P03_01"), ("val", "P03_02"))
        for name in names.split()
    ]
    assert list(on_disk_lines(videos, {"P01_02", "P02_01"}, "videos")) == [
        "videos: 2 of the 5 videos of the sheet are there",
        "  train: 2 of 4 (all of P02, 1 of 2 of P01, none of P03)",
        "  val: 0 of 1 (none of P03)",
    ]
    for count, found in (("all", {video.video_id for video in videos}), ("none of the", set())):
        (line,) = on_disk_lines(videos, found, "videos")
        assert line == f"videos: {count} 5 videos of the sheet are there"
