"""The texts and tables of report and summary: metrics, warnings, advice, published models."""

import re

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.data.segment_list import DropReason
from epic100.model.published import published
from epic100.pages.report import read_figure, write_summary
from epic100.pages.report_tables import (
    class_tables,
    hardware,
    mistakes_table,
    next_steps,
    official_rows,
    people_table,
    styled,
)
from epic100.scoring.metrics import TASKS
from support.small_report import make_report


def text_of(page: str) -> str:
    """Remove tags and styles from an HTML page, and join its words by single spaces."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


def test_accuracies_have_intervals_and_drops_are_told(tmp_path):
    text = text_of(make_report(tmp_path, overall_action_accuracy_at_1=50.0))
    expected = (
        "50.0 % of the validation actions are right",
        # 20 of 40 are right. The interval is that of Wilson (1927).
        "actions, top-1 50.0 % 95 % interval 35.2 to 64.8",
        "val segments predicted 35 of 40",
        "Segments kept and dropped what became of them train val kept 3 40 video missing 0 5",
        "segments kept, all splits 35 of 40",
        "7 of the segments kept are of videos judged by their decoder only",
        "3 December 2026 · run default · a text",
        "Mistakes, classes, participants and examples below are of the 35 with readable video",
        "train.seed 3",
        "train.options.lr a text",
    )
    assert [words for words in expected if words not in text] == []
    assert "Warning" not in text


def summary_of(folder):
    """Write the summary of the run whose report is in this folder, and return its text."""
    names = ("salvage.tsv", "metrics.json", "dropped.tsv", "summary.txt")
    write_summary(*(folder / name for name in names))
    return (folder / "summary.txt").read_text()


def test_an_official_run_is_compared_with_published(tmp_path):
    metrics = {"segments": 9668, "predicted": 9668, "action_head_accuracy_at_1": 44.4}
    text = text_of(make_report(tmp_path, **metrics))
    titles = [model.title for model in published().values()]
    assert "this run" in text and all(f"{title} published" in text for title in titles)
    # LaViLa published the accuracy of its action head, not the leaderboard's figure.
    assert "LaViLa TimeSformer-B published 69.0 58.4 - 46.9" in text
    assert "SlowFast R50, 8x8 published 65.6 50.0 38.5 -" in text and "44.4" in text
    summary = summary_of(tmp_path)
    assert "Published" in summary and "38.5" in summary


def test_a_run_on_other_segments_is_not_compared(tmp_path):
    text = text_of(make_report(tmp_path))
    assert "this run has 40" in text and "SlowFast" not in text
    assert "Published" not in summary_of(tmp_path)


# The interval of the difference is one point to both sides, so that only the first one contains 0.
@pytest.mark.parametrize("difference", [0.25, -40.0], ids=["agrees", "differs"])
def test_an_adopted_model_is_compared_with_its_metrics(tmp_path, difference):
    agrees = difference > 0
    verb = {
        "segments": "all",
        "what": "verb",
        "published": 50.0,
        "here": 50.0 + difference,
        "difference": difference,
        "low": difference - 1,
        "high": difference + 1,
        "agrees": agrees,
    }
    noun = {"segments": "all", "what": "noun", "published": None, "here": 50.0, "agrees": None}
    rows = [verb, noun]
    beside = {"name": "avion_b", "title": "AVION ViT-B", "rows": rows}
    text = text_of(make_report(tmp_path, beside_published=beside))
    assert "AVION ViT-B, top-1 as published and here" in text
    shown = f"all verb 50.0 {50 + difference:.1f} {difference:+.2f} {difference - 1:+.2f} to"
    assert shown in text and "all noun - 50.0" in text
    summary = summary_of(tmp_path)
    assert ("agrees" in summary) == agrees and ("DIFFERS" in summary) == (not agrees)
    # Where metrics differ, the causes to look for are listed.
    for page in (text, summary):
        assert ("the order of the classes" in page) == (not agrees)


@pytest.mark.parametrize(
    "metrics, words",
    [
        pytest.param(
            {"predicted": 3},
            "These figures are worth little: 5 of 40 segments (12.5%) without a prediction: 5 "
            "video missing.",
            id="few predictions",
        ),
        pytest.param(
            {"trained_on": {"split": "trainval"}},
            "The model learned from these segments too (train: split: trainval).",
            id="trained on val",
        ),
    ],
)
def test_weak_metrics_have_a_warning_on_top(tmp_path, metrics, words):
    assert f"Warning. {words}" in text_of(make_report(tmp_path, **metrics))
    assert summary_of(tmp_path).splitlines()[0] == f"Warning. {words}"


def test_seen_participants_are_all_but_the_unseen_ones():
    participants = {
        name: {"segments": count} | {f"{task}_accuracy_at_1": accuracy for task in TASKS}
        for name, count, accuracy in (("P01", 30, 50.0), ("P02", 10, 90.0), ("P18", 5, 0.0))
    }
    diagnostics = {f"{task}_mean_class_accuracy": 1.0 for task in TASKS}
    diagnostics |= {"participants": participants}
    metrics = {"segments": 45, "predicted": 45, "beyond_train": 0, "diagnostics": diagnostics}
    rows = {name: (count, percents) for name, count, percents in official_rows(metrics, ["P18"])}
    # 30 segments have 50 %, and 10 have 90 %.
    assert rows["seen participants, top-1"] == (40, pytest.approx([60.0] * 3))
    assert rows["unseen participants, top-1"][0] == 5
    assert rows["tail classes, top-1"] == (None, [None] * 3)
    # Without a list of unseen ones, it would be the row of all segments again.
    assert "seen participants, top-1" not in [name for name, *_ in official_rows(metrics, [])]


def test_a_figure_without_svg_is_an_error(tmp_path):
    (tmp_path / "a.svg").write_text("no SVG")
    with pytest.raises(EpicError, match="no SVG file .* make it again"):
        read_figure(tmp_path / "a.svg")


def test_the_summary_has_dropped_segments_and_metrics(tmp_path):
    metrics = {f"overall_{task}_accuracy_at_{k}": 12.5 for task in TASKS for k in (1, 5)}
    make_report(tmp_path, **metrics)
    reason = DropReason.HELD_BACK.sentence("P01_02", "it lasts 5 s, the sheet says 9 s")
    rows = f"narration_id\tsplit\treason\na\tval\t{reason}\nb\ttrain\t{reason}\n"
    (tmp_path / "dropped.tsv").write_text(rows)
    text = summary_of(tmp_path)
    expected = (
        "P00: 35 of 40 segments kept",
        "7 of the segments kept are of videos judged by their decoder only",
        f"2 segments: {reason}",
        "`videos: accept: [P01_02]`",
        "40 segments, 35 of them predicted",
        "  overall     12.50   12.50   12.50   top-1\n",
        # No list of tail classes is given.
        "  tail            -       -       -   top-1\n",
    )
    assert [words for words in expected if words not in text] == []


def cells(table):
    """The texts of each row of a table of HTML, the names of its columns first."""
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [" ".join(cell.split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t", row, re.DOTALL)]
        for row in rows
    ]


def test_a_table_has_bars_and_escaped_texts():
    table = pd.DataFrame({"<b>": ["<i>", "b"], "%": [12.34, None], "n": [1200, 7]})
    page = styled(table, "a", "<u>", {"%": 100})
    assert cells(page) == [["&lt;b&gt;", "%", "n"], ["&lt;i&gt;", "12.3", "1,200"], ["b", "-", "7"]]
    assert "<u>" not in page and "&lt;u&gt;" in page
    assert re.search(r"#T_a_row0_col1 .*?12\.3%", page, re.DOTALL), "a bar of 12.3 %"


CLASSES = pd.DataFrame(
    [
        ("verb", 0, "take", 9, 4, 50.0, 100.0, "wash"),
        ("verb", 1, "wash", 5, 2, 0.0, 50.0, "take"),
        ("verb", 2, "mix", 3, 0, None, None, ""),
        ("noun", 0, "pan", 8, 6, 100.0, 100.0, ""),
    ],
    columns=[
        "task",
        "class_id",
        "name",
        "train_segments",
        "val_segments",
        "top1",
        "top5",
        "often_taken_for",
    ],
)


def test_a_class_table_has_val_s_classes():
    tables = class_tables(CLASSES)
    assert cells(tables["verb"])[1:] == [
        ["take", "9", "4", "50.0", "100.0", "wash"],
        ["wash", "5", "2", "0.0", "50.0", "take"],
    ]
    assert "1 nouns of val" in tables["noun"]


def test_the_most_frequent_mistake_comes_first():
    confusions = [
        {"true": 1, "predicted": 0, "count": 2, "share": 100.0},
        {"true": 0, "predicted": 1, "count": 3, "share": 75.0},
    ]
    metrics = {"diagnostics": {"verb_confusions": confusions, "noun_confusions": []}}
    assert cells(mistakes_table(metrics, CLASSES))[1:] == [
        ["take", "wash", "3", "75.0"],
        ["wash", "take", "2", "100.0"],
    ]


def test_each_participant_has_dropped_segments_and_accuracy():
    salvage = pd.DataFrame(
        {
            "participant_id": ["P01", "P02"],
            "segments": [10, 5],
            "kept_by_segment": [8, 5],
            "kept_by_video": [2, 5],
        }
    )
    people = {"P01": {"segments": 9, "predicted": 4, "readable_action_accuracy_at_1": 75.0}}
    metrics = {"diagnostics": {"participants": people}}
    assert cells(people_table(metrics, salvage, "segment")) == [
        ["participant", "segments", "dropped", "saved", "val", "% right"],
        # The policy `segment` keeps 8 of 10 segments, 6 more than the policy `video`.
        ["P01", "10", "2", "6", "4", "75.0"],
        ["P02", "5", "0", "0", "-", "-"],
    ]
    assert cells(people_table(metrics, salvage, "video"))[1][2] == "8", "dropped by video"


@pytest.mark.parametrize(
    "trained_on, words",
    [
        ({"gpus": 2, "hardware": "NVIDIA H100"}, "2 x NVIDIA H100"),
        ({"cores": 4, "hardware": "Xeon"}, "4 cores of Xeon"),
        # A model that was made elsewhere.
        ({"split": "train"}, ""),
    ],
    ids=["GPU", "CPU", "unknown"],
)
def test_the_machine_of_a_training_is_in_words(trained_on, words):
    assert hardware(trained_on) == words


# With these metrics and epochs, nothing is left to improve.
GOOD = {
    "segments": 100,
    "predicted": 100,
    "overall_action_accuracy_at_1": 40.0,
    "readable_action_accuracy_at_1": 40.0,
    "loss": 1.1,
    "by_reduce": {"max": {"overall_action_accuracy_at_1": 40.0}},
}


def epochs_of(**changes):
    """Make the table of epochs of a training that went well; `changes` replaces columns."""
    good = {
        "epoch": range(1, 11),
        "loss": [2, 1.5, 1.2, 1.1, 1, 1, 1, 1, 1, 1],
        "seconds": 10.0,
        "data_share": 0.05,
        "action_top1": [1, 5, 9, 20, 30, 35, 38, 39, 40, 40.0],
    }
    return pd.DataFrame(good | changes)


@pytest.mark.parametrize("history", [epochs_of(), None], ids=["trained here", "made elsewhere"])
def test_a_good_run_gets_policy_advice_only(history):
    assert next_steps(GOOD, history, policy="segment", saved=50) == []
    (step,) = next_steps(GOOD, history, policy="video", saved=50)
    assert step.startswith("clean: policy: segment keeps 50 more segments")


@pytest.mark.parametrize(
    "metrics, columns, advice",
    [
        (
            {"predicted": 80, "readable_action_accuracy_at_1": 50.0},
            {},
            "20 of 100 val segments have no readable video: with it, about +10.0 points",
        ),
        (
            {"by_reduce": {"heads": {"overall_action_accuracy_at_1": 41.5}}},
            {},
            "export: reduce: heads has +1.5 points",
        ),
        ({}, {"data_share": 0.4}, "40 % of the training waited for data"),
        ({}, {"loss": [10 - i for i in range(10)]}, "The training loss still falls"),
        (
            {},
            {"action_top1": [1, 5, 9, 20, 45, 35, 38, 39, 40, 40.0]},
            "Accuracy on val was 45.0 at epoch 5: fewer epochs",
        ),
        ({"loss": 2.5}, {}, "The loss is 1.00 in training and 2.50 on val"),
    ],
    ids=[
        "videos that cannot be read",
        "better folding of scores",
        "waiting for data",
        "loss still falls",
        "accuracy fell again",
        "loss on val is large",
    ],
)
def test_a_metric_that_can_be_improved_gets_advice(metrics, columns, advice):
    (step,) = next_steps(GOOD | metrics, epochs_of(**columns), policy="segment", saved=50)
    assert step.startswith(advice)
