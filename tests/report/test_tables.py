"""The tables of the report, and what it says to try next."""

import re

import pandas as pd
import pytest

from epic100.base.job_costs import read_benchmarks
from epic100.report.tables import (
    class_tables,
    cost_table,
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


def test_a_table_has_its_numbers_as_text_bars_behind_them_and_nothing_that_runs():
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


def test_classes_of_val_and_their_mistakes_have_names():
    tables = class_tables(CLASSES)
    assert cells(tables["verb"])[1:] == [
        ["take", "9", "4", "50.0", "100.0", "wash"],
        ["wash", "5", "2", "0.0", "50.0", "take"],
    ]
    assert "1 nouns of val" in tables["noun"]
    few = [{"true": 1, "predicted": 0, "count": 2, "share": 100.0}]
    many = [{"true": 0, "predicted": 1, "count": 3, "share": 75.0}]
    figures = {"diagnostics": {"verb_confusions": few + many, "noun_confusions": []}}
    assert cells(mistakes_table(figures, CLASSES))[1:] == [
        ["take", "wash", "3", "75.0"],
        ["wash", "take", "2", "100.0"],
    ]


def test_each_participant_has_what_damage_costs_and_what_is_right():
    kept = pd.DataFrame(
        {
            "participant_id": ["P01", "P02"],
            "segments": [10, 5],
            "kept_by_segment": [8, 5],
            "kept_by_video": [2, 5],
        }
    )
    people = {"P01": {"segments": 4, "action_accuracy_at_1": 75.0}}
    figures = {"diagnostics": {"participants": people}}
    rows = cells(people_table(figures, kept, "segment"))
    assert rows == [
        ["participant", "segments", "dropped", "saved", "val", "% right"],
        ["P01", "10", "2", "6", "4", "75.0"],
        ["P02", "5", "0", "0", "-", "-"],
    ]
    assert cells(people_table(figures, kept, "video"))[1][2] == "8"


def test_the_costliest_rule_comes_first_and_no_job_is_no_row(tmp_path):
    jobs = pd.DataFrame(
        [("scan", 60, 512, 390), ("scan", 540, 256, 410), ("train", 3600, 2048, 150)],
        columns=["rule", "seconds", "memory_mib", "load_percent"],
    )
    page = cost_table(jobs)
    assert "70.0 minutes of jobs" in page
    assert cells(page)[1:] == [
        ["train", "1", "60.0", "60.0", "2.0", "1.5"],
        ["scan", "2", "10.0", "9.0", "0.5", "4.0"],
    ]
    assert len(cells(cost_table(read_benchmarks(tmp_path)))) == 1


GOOD = {
    "segments": 100,
    "predicted": 100,
    "overall_action_accuracy_at_1": 40.0,
    "readable_action_accuracy_at_1": 40.0,
    "loss": 1.1,
    "by_reduce": {"max": {"overall_action_accuracy_at_1": 40.0}},
}


def course(**changes):
    flat = {
        "epoch": range(1, 11),
        "loss": [2, 1.5, 1.2, 1.1, 1, 1, 1, 1, 1, 1],
        "seconds": 10.0,
        "data_share": 0.05,
        "action_top1": [1, 5, 9, 20, 30, 35, 38, 39, 40, 40.0],
    }
    return pd.DataFrame(flat | changes)


def test_a_run_whose_numbers_ask_for_nothing_gets_no_advice():
    assert next_steps(GOOD, course(), "segment", 50) == []
    assert next_steps(GOOD, None, "segment", 50) == []


@pytest.mark.parametrize(
    "figures, history, policy, words",
    [
        (
            {"predicted": 80, "readable_action_accuracy_at_1": 50.0},
            {},
            "segment",
            "20 of 100 val segments have no readable video: with it, about +10.0 points",
        ),
        ({}, {}, "video", "clean: policy: segment keeps 50 more segments"),
        (
            {"by_reduce": {"heads": {"overall_action_accuracy_at_1": 41.5}}},
            {},
            "segment",
            "export: reduce: heads has +1.5 points",
        ),
        ({}, {"data_share": 0.4}, "segment", "40 % of the training waited for data"),
        ({}, {"loss": [10 - i for i in range(10)]}, "segment", "The training loss still falls"),
        (
            {},
            {"action_top1": [1, 5, 9, 20, 45, 35, 38, 39, 40, 40.0]},
            "segment",
            "Accuracy on val was 45.0 at epoch 5: fewer epochs",
        ),
        ({"loss": 2.5}, {}, "segment", "The loss is 1.00 in training and 2.50 on val"),
    ],
)
def test_a_number_that_asks_for_a_step_is_a_sentence(figures, history, policy, words):
    (step,) = next_steps(GOOD | figures, course(**history), policy, 50)
    assert step.startswith(words)
