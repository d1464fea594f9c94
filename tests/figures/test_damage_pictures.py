from dataclasses import replace

import pandas as pd
import pytest

from epic100.figures.damage import plot_archive, plot_close_up
from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video
from support.pictures import size, words
from support.real_size import real_segments, real_sheet

VIDEOS = {
    name: Video(name, name[:3], "train", 50.0, 100.0)
    for name in ("P01_101", "P01_102", "P02_101", "P02_102", "P03_101")
}
# P03 has no row, as if the config left it out.
ROWS = {
    "P01_101": ScanRow("P01_101", "ok", 50.0, 5000, pictures=5000),
    "P01_102": ScanRow("P01_102", "damaged", 50.0, 4990, [(1000, 1010)], "x", pictures=5000),
    "P02_101": ScanRow("P02_101", "unreadable", reason="empty"),
    "P02_102": ScanRow("P02_102", "missing", reason="no file"),
}
SEGMENTS = pd.DataFrame(
    [
        (video.path().as_posix(), start, start + 100, f"{name}_{start}")
        for name, video in VIDEOS.items()
        for start in (0, 950, 3000)
    ],
    columns=["path", "start", "stop", "narration_id"],
)
DROPPED = ["P01_102_950", *(f"P02_10{i}_{s}" for i in (1, 2) for s in (0, 950, 3000))]


@pytest.fixture
def picture(tmp_path):
    return tmp_path / "a.svg"


def test_the_archive_counts_videos_by_state_and_names_participants(picture):
    plot_archive(VIDEOS, ROWS, picture)
    said = words(picture)
    assert "1 of 3 videos on disk are sound; 2 more: missing, or not in this run" in said
    states = {"ok (1)", "damaged (1)", "unreadable (1)", "missing (1)"}
    assert states | {"P01", "P02", "minutes of video"} <= set(said)
    assert "P03" not in said and said[1].endswith(" without a video on disk: P03.")
    plot_archive(VIDEOS, {}, picture)
    assert "no video is on disk" in words(picture)


def test_damaged_frames_are_marked_where_they_lie_in_the_file(picture):
    """The mark's place in the picture, from the axis: 20.0 s of 100 s, though it lasts 0.2 s."""
    plot_close_up(VIDEOS, {"P01_102": ROWS["P01_102"]}, SEGMENTS, DROPPED, picture)
    text = picture.read_text()
    bars = {}
    for colour, name in (("#56b4e9", "video"), ("#d55e00", "mark")):
        path = next(p for p in text.split("<path d=")[1:] if f"fill: {colour}" in p[:400])
        xs = [
            float(part.split()[0])
            for part in path.split('"')[1].replace("M", "L").split("L")
            if part.strip() and part.split()[0] != "z"
        ]
        bars[name] = min(xs), max(xs)
    (left, right), (start, stop) = bars["video"], bars["mark"]
    assert (start - left) / (right - left) == pytest.approx(0.2, abs=0.002)
    # The mark has at least this share of the axis, so that it is visible.
    assert (stop - start) / (right - left) == pytest.approx(0.003, rel=0.1)


def test_the_close_up_lists_only_what_is_not_sound_and_what_it_costs(picture):
    plot_close_up(VIDEOS, ROWS, SEGMENTS, DROPPED, picture)
    said = words(picture)
    assert "2 videos are damaged or unreadable; 4 segments lost" in said
    rows = [text for text in said if text.startswith("P0")]
    assert rows == ["P02_101 unreadable", "P01_102 damaged"]
    assert [text for text in said if text.endswith("lost")][1:] == ["3 of 3 lost", "1 of 3 lost"]
    plot_close_up({"P01_101": VIDEOS["P01_101"]}, ROWS, SEGMENTS, [], picture)
    assert "no damaged or unreadable video" in words(picture)


def test_pictures_of_the_whole_archive_stay_small_and_say_what_they_leave_out(tmp_path):
    videos = real_sheet()
    segments, bad = real_segments(videos, splits=["val"]), list(videos)[::10]
    rows = {name: ScanRow(name, "ok", 50.0, 5000, pictures=5000) for name in videos}
    ranges = [(9, 60), (500, 2000)]
    rows |= {name: replace(rows[name], status="damaged", damaged=ranges) for name in bad}
    lost = segments[segments["path"].str[4:-4].isin(bad) & (segments["start"] < 2000)]
    plot_archive(videos, rows, tmp_path / "archive.svg")
    plot_close_up(videos, rows, segments, lost["narration_id"], tmp_path / "close_up.svg")
    assert "630 of 700 videos on disk are sound" in words(tmp_path / "archive.svg")
    title, hint, *rest = words(tmp_path / "close_up.svg")
    assert title.startswith("70 videos are") and hint.endswith("Only the first rows are shown.")
    assert sum(text.endswith(" lost") for text in rest) == 16
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 250_000 and max(size(path)) < 1200
