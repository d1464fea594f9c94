"""Pictures of the data, of a training, of results and of what a run cost, and what all share."""

import re

import pandas as pd
import pytest

from epic100.base.durations import in_words
from epic100.base.errors import EpicError
from epic100.base.job_costs import read_benchmarks
from epic100.figures.data import annotated_segments, plot_lengths
from epic100.figures.results import by_class
from epic100.figures.style import drawing, legend_on_top, name_rows, short
from epic100.figures.training import plot_training
from epic100.scoring.epoch_table import read_epochs
from epic100.scoring.outcomes import outcomes, read_truth
from epic100.scoring.predictions import read_predictions
from epic100.segments.official_lists import read_class_names
from support.checkout import CLASSES
from support.lab import FILES
from support.made_up import NAMES, PAIRS, ROWS, make_predictions, write_history
from support.pictures import cut, size, words


def test_a_picture_says_what_it_was_given_and_is_the_same_every_time(tmp_path):
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
def test_times_are_said_in_a_handy_unit(seconds, expected):
    assert in_words(seconds) == expected


def test_long_names_are_cut_and_short_ones_are_not():
    assert short("board:chopping", 18) == "board:chopping"
    assert short("container:plastic:large", 18) == "container:plastic…"


TICKS = re.compile(r'id="xtick_\d+">.*?<text[^>]*>([^<]+)</text>', re.DOTALL)


def drawn(folder, rows):
    plot_training(read_epochs(write_history(folder, *rows)), folder / "a.svg")
    return folder / "a.svg"


def test_the_picture_tells_rate_and_the_share_of_waiting_and_one_validation_is_no_curve(tmp_path):
    said = words(drawn(tmp_path, ROWS))
    assert "2 epochs in 20 seconds; 75.0 % top-1 actions at the end" in said
    share = 100 * (0.5 * 9 + 0.25 * 11) / 20
    assert f"17.1 segments a second; {share:.0f} % of the time went into waiting for data." in said
    panels = {"loss, mean of the epoch", "learning rate", "seconds per epoch"}
    assert panels | {"train", "compute", "waiting for data"} <= set(said)
    assert "accuracy on val in %" not in said
    twice = words(drawn(tmp_path, [ROWS[1].replace("2\t32", "1\t16", 1), ROWS[1]]))
    assert {"accuracy on val in %", "verb", "action", "val"} <= set(twice)


@pytest.mark.parametrize(
    "rows, text",
    [
        (ROWS[:1], "1 epoch in 9 seconds"),
        ([], "results/training.tsv has no row"),
    ],
)
def test_a_training_that_was_never_validated_or_logged_still_makes_a_picture(tmp_path, rows, text):
    assert text in words(drawn(tmp_path, rows))


@pytest.mark.parametrize(
    "row, words_of_error",
    [
        (ROWS[0].replace("1.9855", "nan?"), "line 2: loss is 'nan?'; expected the training"),
        (ROWS[0] + "\t9", "line 2: 15 fields, the header has 14"),
    ],
)
def test_a_field_that_is_no_number_names_file_line_and_column(tmp_path, row, words_of_error):
    with pytest.raises(EpicError, match=words_of_error.replace("?", r"\?")):
        read_epochs(write_history(tmp_path, row))


@pytest.mark.parametrize("count", [1, 3, 300])
def test_ticks_are_whole_epochs_and_the_picture_stays_small(tmp_path, count):
    rows = [ROWS[1].replace("2\t32", f"{epoch}\t{epoch}", 1) for epoch in range(1, count + 1)]
    path = drawn(tmp_path, rows)
    ticks = TICKS.findall(path.read_text())
    assert {float(tick) for tick in ticks} <= set(range(count + 1)) and len(ticks) >= 3
    assert path.stat().st_size < 400_000 and max(size(path)) < 1000 and cut(path) == []


def test_lengths_are_of_verbs_named_in_the_annotators_words(lab, tmp_path):
    csvs = {split: str(lab.folder / f"annotations/{FILES[split]}") for split in ("train", "val")}
    segments = annotated_segments(csvs, lab.videos, classes=CLASSES)
    plot_lengths(segments, read_class_names(csvs.values()), tmp_path / "lengths.svg")
    middle = segments["seconds"].median()
    said = words(tmp_path / "lengths.svg")
    assert f"Half of all segments are shorter than {middle:.1f} s" in said
    assert {"take", "wash", "pour", "mix"} <= set(said)


HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
ROW = "{}\t0:05:15\t{}\t1813.20\t735.35\t748.29\t23.96\t772.68\t{}\t248.21\n"


def test_a_training_that_was_taken_up_again_costs_all_its_epochs(tmp_path):
    for name, row in (("train", (3600, 2048, 150)), ("scan/P02", ("0.4", "NA", "NA"))):
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEADER + ROW.format(*row))
    for seconds, counted in ((7000, 7200), (300, 3600)):
        epochs = pd.DataFrame({"seconds": [seconds, 200]})
        assert read_benchmarks(tmp_path, epochs)["seconds"].tolist() == [0.4, counted]


@pytest.fixture(scope="module", params=["max", "logsumexp"])
def outcome(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("outcomes")
    make_predictions(folder)
    truth = read_truth(folder / "val.txt", {})
    return outcomes(read_predictions(folder / "val.pt", "val"), truth, request.param)


def test_guess_and_scores_fit_the_hits(outcome):
    right = (outcome["verb"] == outcome["verb_guess"]) & (outcome["noun"] == outcome["noun_guess"])
    assert (right == outcome["action_at_1"]).all() and right.mean() > 0.5
    confidence, truth_score = outcome["action_confidence"], outcome["action_truth_score"]
    assert (confidence == truth_score)[right].all() and (confidence >= truth_score).all()
    assert confidence.between(0, 1).all()
    assert outcome["predicted"].tolist() == [True] * 35 + [False] * 5
    assert set(outcome["participant"]) == {"P00", "P01", "P02"}


def test_classes_add_up_to_the_readable_segments_and_one_of_train_alone_has_no_accuracy(outcome):
    table = by_class(outcome, [*PAIRS, (3, 2, 7)], NAMES)
    for task, classes in (("verb", 4), ("noun", 3)):
        rows = table[table["task"] == task]
        assert len(rows) == classes and rows["val_segments"].sum() == 35
        assert rows["val_segments"].is_monotonic_decreasing
        assert rows["train_segments"].sum() == 25
        mean = (rows["top1"] * rows["val_segments"]).sum() / 35
        assert mean == pytest.approx(100 * outcome[f"{task}_at_1"][:35].mean())
    mistaken = table[table["top1"] < 100]
    assert (mistaken["often_taken_for"] != "").all() and (mistaken["name"] != "").all()
    row = table[(table["task"] == "verb") & (table["class_id"] == 3)].iloc[0]
    assert (row["name"], row["train_segments"], row["val_segments"]) == ("verb 3", 7, 0)
    assert pd.isna(row["top1"]) and row["often_taken_for"] == ""
