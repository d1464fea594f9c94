"""Pictures of the data, of a training and of what a run cost, and what all pictures share."""

import re

import pandas as pd
import pytest

from epic100.base.job_costs import read_benchmarks
from epic100.figures.data import (
    annotated_segments,
    plot_classes,
    plot_lengths,
    plot_participants,
)
from epic100.figures.performance import plot_rules
from epic100.figures.style import (
    drawing,
    in_words,
    legend_on_top,
    name_rows,
    short,
)
from epic100.figures.training import plot_training
from epic100.segments.official_lists import read_class_names
from epic100.training.epoch_table import read_epochs
from support.checkout import CLASSES
from support.lab import FILES
from support.made_up import ROWS, write_history
from support.pictures import cut, size, words
from support.real_size import real_segments, real_sheet


def draw(path, height=4.0):
    with drawing(path, "A title", "a hint", height) as figure:
        axes = figure.subplots()
        axes.barh([0, 1], [1, 2], label="bars")
        name_rows(axes, ["a & b", "c"])
        legend_on_top(figure)


def test_a_picture_says_what_it_was_given_and_is_the_same_every_time(tmp_path):
    draw(tmp_path / "a.svg")
    draw(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert {"A title", "a hint", "a & b", "c", "bars"} <= set(words(tmp_path / "a.svg"))


@pytest.mark.parametrize("seconds, expected", [
    (0.4, "0 seconds"), (119, "119 seconds"), (120, "2.0 minutes"), (7199, "120.0 minutes"),
    (360000, "100.0 hours"),
])  # fmt: skip
def test_times_are_said_in_a_handy_unit(seconds, expected):
    assert in_words(seconds) == expected


def test_long_names_are_cut_and_short_ones_are_not():
    assert short("board:chopping", 18) == "board:chopping"
    assert short("container:plastic:large", 18) == "container:plastic…"


TICKS = re.compile(r'id="xtick_\d+">.*?<text[^>]*>([^<]+)</text>', re.DOTALL)


def drawn(folder, rows):
    plot_training(read_epochs(write_history(folder, *rows)), folder / "a.svg")
    return folder / "a.svg"


def test_the_picture_tells_accuracy_rate_and_the_share_of_waiting(tmp_path):
    said = words(drawn(tmp_path, ROWS))
    assert "2 epochs in 20 seconds; 75.0 % top-1 actions at the end" in said
    share = 100 * (0.5 * 9 + 0.25 * 11) / 20
    assert f"17.1 segments a second; {share:.0f} % of the time went into waiting for data." in said
    assert {"training loss, mean of the epoch", "accuracy on val in %", "learning rate", "compute",
            "seconds per epoch", "waiting for data", "verb", "action"} <= set(said)  # fmt: skip


@pytest.mark.parametrize("rows, text", [
    (ROWS[:1], "1 epoch in 9 seconds"), ([], "results/training.tsv has no row"),
])  # fmt: skip
def test_a_training_that_was_never_validated_or_logged_still_makes_a_picture(tmp_path, rows, text):
    assert text in words(drawn(tmp_path, rows))


@pytest.mark.parametrize("count", [1, 3, 300])
def test_ticks_are_whole_epochs_and_the_picture_stays_small(tmp_path, count):
    rows = [ROWS[1].replace("2\t32", f"{epoch}\t{epoch}", 1) for epoch in range(1, count + 1)]
    path = drawn(tmp_path, rows)
    ticks = TICKS.findall(path.read_text())
    assert {float(tick) for tick in ticks} <= set(range(count + 1)) and len(ticks) >= 4
    assert path.stat().st_size < 400_000 and max(size(path)) < 1000 and cut(path) == []


@pytest.fixture(scope="module")
def csvs(lab):
    return {split: str(lab.folder / f"annotations/{FILES[split]}") for split in ("train", "val")}


@pytest.fixture(scope="module")
def segments(lab, csvs):
    return annotated_segments(csvs, lab.videos, classes=CLASSES)


def test_segments_of_all_splits_have_participant_and_seconds(segments, lab):
    assert segments["split"].value_counts().to_dict().keys() == {"train", "val"}
    assert set(segments["participant"]) == {"P01", "P02", "P03"}
    assert segments["seconds"].between(0.1, 3.1).all()  # as the mini kitchen is scheduled
    lines = (lab.folder / "results/segments/train.txt").read_text().splitlines()
    assert (segments["split"] == "train").sum() == len(lines)


def test_the_participants_picture_counts_segments_and_time_by_split(segments, lab, tmp_path):
    plot_participants(segments, lab.videos, tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert f"{len(segments)} segments in 4 videos of 3 participants, 48 seconds" in said
    trained = (segments["split"] == "train").sum()
    assert {"P01", "P02", "P03", f"train ({trained})", "train (36.0)"} <= set(said)
    plot_participants(segments[segments["participant"] != "P03"], lab.videos, tmp_path / "b.svg")
    assert "P03" in words(tmp_path / "b.svg")  # it has a video, but no segment


def test_lengths_and_classes_are_named_in_the_annotators_words(segments, csvs, tmp_path):
    names = read_class_names(csvs.values())
    plot_lengths(segments, names, tmp_path / "lengths.svg")
    plot_classes(segments, names, tmp_path / "classes.svg")
    middle = segments["seconds"].median()
    assert f"Half of all segments are shorter than {middle:.1f} s" in words(
        tmp_path / "lengths.svg"
    )
    assert {"take", "wash", "pour", "mix"} <= set(words(tmp_path / "lengths.svg"))
    said = set(words(tmp_path / "classes.svg"))
    assert {"take", "spoon", "plate", "pan", "bowl", "train", "val"} <= said


def test_unlabelled_segments_alone_make_pictures_that_say_so(segments, tmp_path):
    bare = segments.assign(verb=-1, noun=-1)
    plot_lengths(bare, read_class_names([]), tmp_path / "lengths.svg")
    plot_classes(bare, read_class_names([]), tmp_path / "classes.svg")
    assert "no labelled segment" in words(tmp_path / "classes.svg")


def test_pictures_of_the_whole_data_set_stay_small(tmp_path):
    videos = real_sheet()
    segments, names = real_segments(videos), read_class_names([])
    plot_participants(segments, videos, tmp_path / "participants.svg")
    plot_lengths(segments, names, tmp_path / "lengths.svg")
    plot_classes(segments, names, tmp_path / "classes.svg")
    assert "81 other verbs" in words(tmp_path / "classes.svg")
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 300_000 and max(size(path)) < 1700


HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
ROW = "{}\t0:05:15\t{}\t1813.20\t735.35\t748.29\t23.96\t772.68\t{}\t248.21\n"


@pytest.fixture
def benchmarks(tmp_path):
    (tmp_path / "b/scan").mkdir(parents=True)
    (tmp_path / "b/train.tsv").write_text(HEADER + ROW.format(3600, 2048, 150))
    (tmp_path / "b/scan/P01.tsv").write_text(HEADER + ROW.format(600, 512, 390))
    (tmp_path / "b/scan/P02.tsv").write_text(HEADER + ROW.format("0.4", "NA", "NA"))
    return tmp_path / "b"


def test_jobs_are_distinguished_by_folder_and_file(benchmarks):
    jobs = read_benchmarks(benchmarks)
    assert jobs[["rule", "job"]].apply(tuple, axis=1).tolist() == [
        ("scan", "P01"), ("scan", "P02"), ("train", ""),
    ]  # fmt: skip
    assert jobs["seconds"].tolist() == [600, 0.4, 3600]
    assert jobs["memory_mib"].isna().tolist() == [False, True, False]


def test_the_picture_sums_up_each_rule_the_costliest_first(benchmarks, tmp_path):
    plot_rules(read_benchmarks(benchmarks), tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert "70.0 minutes of jobs, 86 % of it train" in said
    assert [w for w in said if w in ("scan", "train")] == ["train", "scan"] * 3
    assert {"1 job, 60.0 minutes", "2 jobs, 10.0 minutes"} <= set(said)


def test_a_training_that_was_taken_up_again_costs_all_its_epochs(benchmarks):
    for seconds, counted in ((7000, 7200), (300, 3600)):
        epochs = pd.DataFrame({"seconds": [seconds, 200]})
        assert read_benchmarks(benchmarks, epochs)["seconds"].tolist() == [600, 0.4, counted]


@pytest.mark.parametrize("load", [237, 240, 241])
def test_no_label_of_a_tick_is_cut_at_the_edge_whatever_a_run_took(tmp_path, load):
    columns = ["rule", "job", "seconds", "memory_mib", "load_percent"]
    rows = [(rule, "", 30, 512, load) for rule in ("minikitchen_video", "scan")]
    plot_rules(pd.DataFrame(rows, columns=columns), tmp_path / "a.svg")
    assert cut(tmp_path / "a.svg") == []


def test_no_benchmark_file_at_all_is_a_picture_that_says_so(tmp_path):
    plot_rules(read_benchmarks(tmp_path / "none"), tmp_path / "a.svg")
    assert "results/benchmarks holds no file" in words(tmp_path / "a.svg")
