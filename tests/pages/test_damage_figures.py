"""Pictures of the archive's videos by state, and of where damaged videos are damaged."""

import re

import pandas as pd
import pytest

from epic100.pages.archive_figures import CLOSE_UP_ROWS, MARK, plot_archive, plot_close_up
from epic100.pages.figure_style import SKY, VERMILION
from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video
from support.made_up import real_segments, real_sheet
from support.pictures import size, words

VIDEOS = {
    name: Video(name, participant_id=name[:3], split="train", fps=50.0, duration=100.0)
    for name in ("P01_101", "P01_102", "P02_101", "P02_102", "P03_101")
}
# The scan rows by video. P03_101 has none, as if the config left it out.
ROWS = {
    "P01_101": ScanRow("P01_101", "ok", 50.0, 5000, pictures=5000),
    "P01_102": ScanRow("P01_102", "damaged", 50.0, 4990, [(1000, 1010)], "x", pictures=5000),
    "P02_101": ScanRow("P02_101", "unreadable", reason="empty"),
    "P02_102": ScanRow("P02_102", "missing", reason="no file"),
}
# Each video has three segments, and the second one of P01_102 touches its damage.
SEGMENTS = pd.DataFrame(
    [
        (video.path().as_posix(), start, start + 100, f"{name}_{start}")
        for name, video in VIDEOS.items()
        for start in (0, 950, 3000)
    ],
    columns=["path", "start", "stop", "narration_id"],
)
# All segments of the unreadable and of the missing video are dropped.
DROPPED = ["P01_102_950", *(f"P02_10{i}_{start}" for i in (1, 2) for start in (0, 950, 3000))]


@pytest.fixture
def picture(tmp_path):
    """The path of the SVG file to write."""
    return tmp_path / "a.svg"


def test_the_archive_is_counted_by_state_of_the_videos(picture):
    plot_archive(VIDEOS, ROWS, picture)
    title, hint, *texts = words(picture)
    assert title == "1 of 3 videos on disk are undamaged; 2 more: missing, or not in this run"
    states = {"ok (1)", "damaged (1)", "unreadable (1)", "missing (1)"}
    assert states | {"P01", "P02", "minutes of video"} <= set(texts)
    assert "P03" not in texts and hint.endswith(" without a video on disk: P03.")


def test_an_archive_without_a_video_still_has_a_picture(picture):
    plot_archive(VIDEOS, {}, picture)
    assert "no video is on disk" in words(picture)


def ends_of_bar(svg, colour):
    """Find the left and right end of the first bar of a colour in the text of an SVG file."""
    path = re.search(rf'<path d="([^"]*)"[^>]*fill: {colour}', svg)[1]
    # The path is a list of points, such as `M 10.5 20 L 30 20 z`.
    xs = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path)]
    return min(xs), max(xs)


def test_damaged_frames_are_marked_at_their_place_in_the_video(picture):
    plot_close_up(VIDEOS, {"P01_102": ROWS["P01_102"]}, SEGMENTS, DROPPED, picture)
    svg = picture.read_text()
    left, right = ends_of_bar(svg, SKY.lower())
    start, stop = ends_of_bar(svg, VERMILION.lower())
    # The video has 50 frames a second, so frame 1000 is at 20 s of 100 s.
    assert (start - left) / (right - left) == pytest.approx(0.2, abs=0.002)
    # The 10 of 5000 frames have a share of 0.002, which is too narrow to see, so the mark is wider.
    assert (stop - start) / (right - left) == pytest.approx(MARK, rel=0.1)


def test_the_close_up_has_each_bad_video_with_its_lost_segments(picture):
    plot_close_up(VIDEOS, ROWS, SEGMENTS, DROPPED, picture)
    title, _, *texts = words(picture)
    assert title == "2 videos are damaged or unreadable; 4 segments lost"
    rows = [text for text in texts if text.startswith("P0")]
    assert rows == ["P02_101 unreadable", "P01_102 damaged"]
    lost = [text for text in texts if text.endswith("lost")]
    assert lost == ["3 of 3 lost", "1 of 3 lost"]


def test_an_archive_without_damage_still_has_a_close_up(picture):
    plot_close_up({"P01_101": VIDEOS["P01_101"]}, ROWS, SEGMENTS, [], picture)
    assert "no damaged or unreadable video" in words(picture)


def test_the_close_up_of_a_large_archive_shows_only_the_first_rows(picture):
    # All 700 videos of EPIC-KITCHENS-100 are damaged.
    videos = real_sheet()
    damage = [(9, 60), (500, 2000)]
    rows = {name: ScanRow(name, "damaged", 50.0, 5000, damage, pictures=5000) for name in videos}
    plot_close_up(videos, rows, real_segments(videos, splits=["val"]), [], picture)
    title, hint, *texts = words(picture)
    assert title.startswith("700 videos are") and hint.endswith("Only the first rows are shown.")
    assert sum(text.endswith(" lost") for text in texts) == CLOSE_UP_ROWS
    # The report contains the picture, so the file must be small.
    assert picture.stat().st_size < 250_000
    # The axes and the first rows take about 660 pixels, and 700 rows would take over 20 000.
    assert max(size(picture)) < 1200
