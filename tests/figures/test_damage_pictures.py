import pandas as pd
import pytest

from epic100.figures.damage import plot_archive, plot_close_up, plot_dropped
from epic100.segments.drop_reasons import kind_of
from epic100.segments.kept import salvage_table
from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video
from support.pictures import size, words
from support.real_size import lost_segments, real_scan, real_segments, real_sheet

VIDEOS = {
    name: Video(name, name[:3], "train", 50.0, 100.0)
    for name in ("P01_101", "P01_102", "P02_101", "P02_102", "P03_101")
}
ROWS = {
    "P01_101": ScanRow("P01_101", "ok", 50.0, 5000, pictures=5000),
    "P01_102": ScanRow("P01_102", "damaged", 50.0, 4990, [(1000, 1010)], "x", pictures=5000),
    "P02_101": ScanRow("P02_101", "unreadable", reason="empty"),
    "P02_102": ScanRow("P02_102", "missing", reason="no file"),
}  # P03 is left out by the config
SEGMENTS = pd.DataFrame(
    [
        (video.path().as_posix(), start, start + 100, f"{name}_{start}")
        for name, video in VIDEOS.items()
        for start in (0, 950, 3000)
    ],
    columns=["path", "start", "stop", "narration_id"],
)
DROPPED = ["P01_102_950", *(f"P02_10{i}_{s}" for i in (1, 2) for s in (0, 950, 3000))]
REASONS = ["touches damaged frames 1000-1010 (x)"] + ["video unreadable: empty"] * 3
REASONS += ["video missing"] * 3


@pytest.fixture
def picture(tmp_path):
    return tmp_path / "a.svg"


def test_the_archive_counts_videos_by_state_and_names_participants(picture):
    plot_archive(VIDEOS, ROWS, picture)
    said = words(picture)
    assert "1 of 5 videos are sound" in said
    assert {"P01", "P02", "P03", "ok (1)", "damaged (1)", "unreadable (1)", "missing (1)",
            "left out (1)", "minutes of video"} <= set(said)  # fmt: skip


def test_damaged_frames_are_marked_where_they_lie_in_the_file(picture):
    """The mark's place in the picture, from the axis: 20.0 s of 100 s, though it lasts 0.2 s."""
    plot_close_up(VIDEOS, {"P01_102": ROWS["P01_102"]}, SEGMENTS, DROPPED, picture)
    text = picture.read_text()
    bars = {}
    for colour, name in (("#56b4e9", "video"), ("#d55e00", "mark")):
        path = next(p for p in text.split("<path d=")[1:] if f"fill: {colour}" in p[:400])
        xs = [float(part.split()[0]) for part in path.split('"')[1].replace("M", "L").split("L")
              if part.strip() and part.split()[0] != "z"]  # fmt: skip
        bars[name] = min(xs), max(xs)
    (left, right), (start, stop) = bars["video"], bars["mark"]
    assert (start - left) / (right - left) == pytest.approx(0.2, abs=0.002)
    assert (stop - start) / (right - left) == pytest.approx(0.003, rel=0.1)  # of the axis


def test_the_close_up_lists_only_what_is_not_sound_and_what_it_costs(picture):
    plot_close_up(VIDEOS, ROWS, SEGMENTS, DROPPED, picture)
    said = words(picture)
    assert "3 videos are not sound; they cost 7 segments" in said
    rows = [text for text in said if text.startswith("P0")]
    assert rows == ["P02_101 unreadable", "P02_102 missing", "P01_102 damaged"]
    assert said.count("3 of 3 segments dropped") == 2
    assert said.count("1 of 3 segments dropped") == 1


def test_an_archive_without_a_flaw_says_so(picture):
    plot_close_up({"P01_101": VIDEOS["P01_101"]}, ROWS, SEGMENTS, [], picture)
    assert "no damaged, unreadable or missing video" in words(picture)
    table = salvage_table(SEGMENTS["path"], dict.fromkeys(("segment", "video"), SEGMENTS["path"]))
    plot_dropped(pd.DataFrame(columns=["narration_id", "split", "reason"]), table, picture)
    assert {"0 of 15 segments are dropped", "nothing was dropped"} <= set(words(picture))


def test_what_was_dropped_is_counted_by_kind_of_reason_and_split(picture):
    dropped = pd.DataFrame({"narration_id": DROPPED, "split": "train", "reason": REASONS})
    kept = SEGMENTS[~SEGMENTS["narration_id"].isin(DROPPED)]
    table = salvage_table(SEGMENTS["path"], {"segment": kept["path"], "video": kept["path"][:3]})
    plot_dropped(dropped, table, picture)
    said = words(picture)
    assert "7 of 15 segments are dropped" in said
    kinds = {"touches damaged frames", "video unreadable", "video missing"}
    assert set(dropped["reason"].map(kind_of)) == kinds
    assert kinds | {"train (7)", "P01 (6)", "P02 (6)", "P03 (3)"} <= set(said)


def test_pictures_of_the_whole_archive_stay_small_and_say_what_they_leave_out(tmp_path):
    videos = real_sheet()
    segments, rows = real_segments(videos), real_scan(videos)
    lost = lost_segments(segments, rows)
    left = segments[~segments["narration_id"].isin(lost["narration_id"])]
    whole = left[[rows[path[4:-4]].status == "ok" for path in left["path"]]]
    kept = {"segment": left["path"].tolist(), "video": whole["path"].tolist()}
    plot_archive(videos, rows, tmp_path / "archive.svg")
    plot_close_up(videos, rows, segments, lost["narration_id"], tmp_path / "close_up.svg")
    plot_dropped(lost, salvage_table(segments["path"].tolist(), kept), tmp_path / "dropped.svg")
    assert "643 of 700 videos are sound" in words(tmp_path / "archive.svg")
    title = next(w for w in words(tmp_path / "close_up.svg") if "videos are not sound" in w)
    assert title.startswith("57 ") and title.endswith("(the 32 that cost most are shown)")
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 500_000 and max(size(path)) < 1000
