"""The tables of the report, and what it says to try next."""

import re

import pandas as pd
import pytest

from epic100.pages.report_tables import (
    class_tables,
    hardware,
    mistakes_table,
    next_steps,
    people_table,
    styled,
)


def cells(table):
    """The texts of each row of a table of HTML, the names of its columns first."""
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [" ".join(cell.split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t", row, re.DOTALL)]
        for row in rows
    ]


def test_a_table_has_numbers_with_bars_and_escaped_texts():
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


def test_a_table_of_classes_has_those_of_val_by_name():
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
    figures = {"diagnostics": {"verb_confusions": confusions, "noun_confusions": []}}
    assert cells(mistakes_table(figures, CLASSES))[1:] == [
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
    figures = {"diagnostics": {"participants": people}}
    assert cells(people_table(figures, salvage, "segment")) == [
        ["participant", "segments", "dropped", "saved", "val", "% right"],
        # The policy `segment` keeps 8 of 10 segments, 6 more than the policy `video`.
        ["P01", "10", "2", "6", "4", "75.0"],
        ["P02", "5", "0", "0", "-", "-"],
    ]
    dropped_by_video = cells(people_table(figures, salvage, "video"))[1][2]
    assert dropped_by_video == "8"


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


# With these figures and epochs, nothing is left to improve.
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
def test_a_good_run_gets_no_advice(history):
    assert next_steps(GOOD, history, policy="segment", saved=50) == []


@pytest.mark.parametrize(
    "figures, columns, advice",
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
def test_a_figure_that_can_be_improved_gets_advice(figures, columns, advice):
    (step,) = next_steps(GOOD | figures, epochs_of(**columns), policy="segment", saved=50)
    assert step.startswith(advice)


def test_the_policy_video_gets_the_advice_to_keep_more_segments():
    (step,) = next_steps(GOOD, epochs_of(), policy="video", saved=50)
    assert step.startswith("clean: policy: segment keeps 50 more segments")
