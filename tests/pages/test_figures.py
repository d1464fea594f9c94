"""Figures of the archive, the data and a training; outcomes and the table of classes."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.textpath import TextPath

from epic100.base.errors import EpicError
from epic100.data.official_lists import read_class_names
from epic100.pages.archive_figures import (
    CLOSE_UP_ROWS,
    MARK,
    annotated_segments,
    plot_archive,
    plot_close_up,
    plot_lengths,
)
from epic100.pages.examples import by_class
from epic100.pages.figure_style import (
    PALE,
    SKY,
    VERMILION,
    drawing,
    in_words,
    legend_on_top,
    name_rows,
    short,
)
from epic100.pages.training_figures import plot_training
from epic100.scoring.epoch_table import read_epochs
from epic100.scoring.outcomes import outcomes, read_labels
from epic100.scoring.predictions import read_predictions
from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video
from support.checkout import CLASSES
from support.lab import FILES
from support.made_up import (
    NAMES,
    PAIRS,
    ROWS,
    make_predictions,
    real_segments,
    real_sheet,
    write_history,
)

SVG = "{http://www.w3.org/2000/svg}"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
# CSS has 96 pixels and 72 points in an inch.
POINTS_PER_PIXEL = 72 / 96


def words(path: Path) -> list[str]:
    """Read the title and the hint of an SVG file, then all of its texts."""
    root = ElementTree.parse(path).getroot()
    head = [root.findtext(f".//{DUBLIN_CORE}{key}") or "" for key in ("title", "description")]
    return head + [element.text or "" for element in root.iter(f"{SVG}text")]


def cut(path: Path) -> list[str]:
    """List the texts that do not fit between the left and right edge, in matplotlib's own font."""
    texts = []
    width_in_pixels, _ = size(path)
    right = width_in_pixels * POINTS_PER_PIXEL
    for element in ElementTree.parse(path).getroot().iter(f"{SVG}text"):
        style = f"{element.get('style')}; x: {element.get('x')}; {element.get('transform')}"
        height = float(re.search(r"([\d.]+)px", style)[1])
        width = TextPath((0, 0), element.text, size=height).get_extents().width
        left = float(re.search(r"(?:x: |translate\()(-?[\d.]+)", style)[1])
        # The position is that of the text's middle or end if its anchor says so.
        if "middle" in style:
            left -= width / 2
        if "anchor: end" in style:
            left -= width
        if left < 0 or left + width > right:
            texts.append(element.text)
    return texts


def size(path: Path) -> tuple[float, float]:
    """Read the width and height in pixels at which a browser shows the figure."""
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.get(name).removesuffix("pt")) for name in ("width", "height"))
    return width / POINTS_PER_PIXEL, height / POINTS_PER_PIXEL


def test_the_same_figure_has_the_same_bytes(tmp_path):
    for name in ("a.svg", "b.svg"):
        with drawing(tmp_path / name, "A title", "a hint") as figure:
            axes = figure.subplots()
            axes.barh([0, 1], [1, 2], label="bars")
            name_rows(axes, ["a & b", "c"])
            legend_on_top(figure)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert {"A title", "a hint", "a & b", "c", "bars"} <= set(words(tmp_path / "a.svg"))


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (0.4, "0 seconds"),
        (119, "119 seconds"),
        (120, "2.0 minutes"),
        (7199, "120.0 minutes"),
        (150000, "41.7 hours"),
        (360000, "4.2 days"),
    ],
)
def test_a_duration_has_a_suitable_unit(seconds, expected):
    assert in_words(seconds) == expected


def test_a_name_above_18_characters_is_cut():
    assert short("a" * 18) == "a" * 18 and short("a" * 19) == "a" * 17 + "…"


def draw(folder, rows):
    """Draw the figure of a training with these epochs, and return its path."""
    plot_training(read_epochs(write_history(folder, *rows)), folder / "a.svg")
    return folder / "a.svg"


def validated(epoch):
    """Make the row of a validated epoch."""
    return ROWS[1].replace("2\t32", f"{epoch}\t{epoch}", 1)


def test_the_figure_has_speed_and_waiting(tmp_path):
    title, hint, *texts = words(draw(tmp_path, ROWS))
    assert title == "2 epochs in 20 seconds; 75.0 % top-1 actions at the end"
    # The epochs take 9 and 11 seconds, and one half and one quarter of them is waiting.
    share = 100 * (0.5 * 9 + 0.25 * 11) / 20
    assert hint == f"17.1 segments a second; {share:.0f} % of the time went into waiting for data."
    panels = {"loss, mean of the epoch", "learning rate", "seconds per epoch"}
    assert panels | {"train", "compute", "waiting for data"} <= set(texts)
    assert "accuracy on val in %" not in texts, "one validation makes no curve"


def test_two_validations_make_a_curve_of_accuracy(tmp_path):
    texts = words(draw(tmp_path, [validated(1), validated(2)]))
    assert {"accuracy on val in %", "verb", "action", "val"} <= set(texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows, text",
    [
        pytest.param(ROWS[:1], "1 epoch in 9 seconds", id="not validated"),
        pytest.param([], "results/training.tsv has no row", id="no epoch"),
    ],
)
def test_training_without_validation_has_a_figure(tmp_path, rows, text):
    assert text in words(draw(tmp_path, rows))


@pytest.mark.parametrize(
    "row, error",
    [
        pytest.param(
            ROWS[0].replace("1.9855", "nan?"),
            r"line 2: loss is 'nan\?'; expected the training",
            id="no number",
        ),
        pytest.param(ROWS[0] + "\t9", "line 2: 15 fields, the header has 14", id="extra field"),
    ],
)
def test_a_wrong_line_of_training_tsv_is_named(tmp_path, row, error):
    with pytest.raises(EpicError, match=error):
        read_epochs(write_history(tmp_path, row))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 300])
def test_ticks_are_whole_epochs_in_a_small_figure(tmp_path, count):
    path = draw(tmp_path, [validated(epoch) for epoch in range(1, count + 1)])
    ticks = re.findall(r'(?s)id="xtick_\d+">.*?<text[^>]*>([^<]+)</text>', path.read_text())
    assert {float(tick) for tick in ticks} <= set(range(count + 1)) and len(ticks) >= 3
    # Four panels of 2.5 inches are 960 pixels high.
    assert path.stat().st_size < 400_000 and max(size(path)) < 1000 and cut(path) == []


def test_the_lengths_figure_names_the_verbs(lab, tmp_path):
    csvs = {split: str(lab.folder / f"annotations/{FILES[split]}") for split in ("train", "val")}
    segments = annotated_segments(csvs, lab.videos, classes=CLASSES)
    plot_lengths(segments, read_class_names(csvs.values()), tmp_path / "lengths.svg")
    texts = words(tmp_path / "lengths.svg")
    median = segments["seconds"].median()
    assert f"Half of all segments are shorter than {median:.1f} s" in texts
    assert {"take", "wash", "pour", "mix"} <= set(texts)


@pytest.fixture(scope="module", params=["max", "logsumexp"])
def outcome(tmp_path_factory, request):
    """The outcomes of 40 segments, of which the last 5 have no prediction."""
    folder = tmp_path_factory.mktemp("outcomes")
    make_predictions(folder)
    labels = read_labels(folder / "val.txt", {})
    return outcomes(read_predictions(folder / "val.pt", "val"), labels, request.param)


def test_the_guess_has_the_highest_score(outcome):
    right = (outcome["verb"] == outcome["verb_guess"]) & (outcome["noun"] == outcome["noun_guess"])
    assert (right == outcome["action_at_1"]).all() and right.mean() > 0.5
    confidence, label_score = outcome["action_confidence"], outcome["action_label_score"]
    assert (confidence == label_score)[right].all() and (confidence >= label_score).all()
    assert confidence.between(0, 1).all()
    assert outcome["predicted"].tolist() == [True] * 35 + [False] * 5
    assert set(outcome["participant"]) == {"P00", "P01", "P02"}


# Verb 3 is in training alone, with 7 segments; all pairs have 25.
TRAINED_PAIRS = [*PAIRS, (3, 2, 7)]


@pytest.mark.parametrize("task, class_count", [("verb", 4), ("noun", 3)])
def test_class_accuracies_average_to_the_total(outcome, task, class_count):
    table = by_class(outcome, TRAINED_PAIRS, NAMES)
    rows = table[table["task"] == task]
    assert len(rows) == class_count and rows["val_segments"].is_monotonic_decreasing
    assert (rows["val_segments"].sum(), rows["train_segments"].sum()) == (35, 25)
    mean = (rows["top1"] * rows["val_segments"]).sum() / 35
    assert mean == pytest.approx(100 * outcome[f"{task}_at_1"][:35].mean())
    mistaken = rows[rows["top1"] < 100]
    assert (mistaken["often_taken_for"] != "").all() and (mistaken["name"] != "").all()


def test_a_class_of_train_alone_has_no_accuracy(outcome):
    table = by_class(outcome, TRAINED_PAIRS, NAMES)
    row = table[(table["task"] == "verb") & (table["class_id"] == 3)].iloc[0]
    assert (row["name"], row["train_segments"], row["val_segments"]) == ("verb 3", 7, 0)
    assert pd.isna(row["top1"]) and row["often_taken_for"] == ""


VIDEOS = {
    name: Video(name, participant_id=name[:3], split="train", fps=50.0, duration=100.0)
    for name in ("P01_101", "P01_102", "P02_101", "P02_102", "P03_101")
}
# The scan rows by video. P03_101 has none, as if the config left it out.
SCANNED = {
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
def svg(tmp_path):
    """The path of the SVG file to write."""
    return tmp_path / "a.svg"


def test_the_archive_is_counted_by_state(svg):
    plot_archive(VIDEOS, SCANNED, svg)
    title, hint, *texts = words(svg)
    assert title == "1 of 3 videos on disk are undamaged; 2 more: missing, or not in this run"
    states = {"ok (1)", "damaged (1)", "unreadable (1)", "missing (1)"}
    assert states | {"P01", "P02", "minutes of video"} <= set(texts)
    assert "P03" not in texts and hint.endswith(" without a video on disk: P03.")


def test_each_video_begins_where_another_ends(svg):
    plot_archive(VIDEOS, SCANNED, svg)
    text = svg.read_text()
    # P01_101 is undamaged, and P01_102, the last one of its row, is damaged.
    _, first_end = ends_of_bar(text, PALE.lower())
    begin, end = ends_of_bar(text, SKY.lower())
    assert begin == first_end
    assert end < float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])


def test_an_empty_archive_has_a_figure(svg):
    plot_archive(VIDEOS, {}, svg)
    assert "no video is on disk" in words(svg)


def ends_of_bar(text, colour):
    """Find the left and right end of the first bar of a colour in the text of an SVG file."""
    path = re.search(rf'<path d="([^"]*)"[^>]*fill: {colour}', text)[1]
    # The path is a list of points, such as `M 10.5 20 L 30 20 z`.
    xs = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path)]
    return min(xs), max(xs)


def test_damaged_frames_are_marked_at_their_place(svg):
    plot_close_up(VIDEOS, {"P01_102": SCANNED["P01_102"]}, SEGMENTS, DROPPED, svg)
    text = svg.read_text()
    left, right = ends_of_bar(text, SKY.lower())
    start, stop = ends_of_bar(text, VERMILION.lower())
    # The video has 50 frames a second, so frame 1000 is at 20 s of 100 s.
    assert (start - left) / (right - left) == pytest.approx(0.2, abs=0.002)
    # The 10 of 5000 frames have a share of 0.002, which is too narrow to see, so the mark is wider.
    assert (stop - start) / (right - left) == pytest.approx(MARK, rel=0.1)


def test_the_close_up_has_the_lost_segments(svg):
    plot_close_up(VIDEOS, SCANNED, SEGMENTS, DROPPED, svg)
    title, _, *texts = words(svg)
    assert title == "2 videos are damaged or unreadable; 4 segments lost"
    rows = [text for text in texts if text.startswith("P0")]
    assert rows == ["P02_101 unreadable", "P01_102 damaged"]
    lost = [text for text in texts if text.endswith("lost")]
    assert lost == ["3 of 3 lost", "1 of 3 lost"]


def test_an_undamaged_archive_has_a_close_up(svg):
    plot_close_up({"P01_101": VIDEOS["P01_101"]}, SCANNED, SEGMENTS, [], svg)
    assert "no damaged or unreadable video" in words(svg)


def test_a_large_close_up_shows_first_rows(svg):
    # All 700 videos of EPIC-KITCHENS-100 are damaged.
    videos = real_sheet()
    damage = [(9, 60), (500, 2000)]
    rows = {name: ScanRow(name, "damaged", 50.0, 5000, damage, pictures=5000) for name in videos}
    plot_close_up(videos, rows, real_segments(videos, splits=["val"]), [], svg)
    title, hint, *texts = words(svg)
    assert title.startswith("700 videos are") and hint.endswith("Only the first rows are shown.")
    assert sum(text.endswith(" lost") for text in texts) == CLOSE_UP_ROWS
    # The report contains the figure, so the file must be small.
    assert svg.stat().st_size < 250_000
    # The axes and the first rows take about 660 pixels, and 700 rows would take over 20 000.
    assert max(size(svg)) < 1200
