"""The texts of report and summary: figures, warnings and published models."""

import re

import pytest

from epic100.base.errors import EpicError
from epic100.data.segment_list import DropReason
from epic100.model.published import published
from epic100.pages.report import read_figure, write_summary
from epic100.pages.report_tables import official_rows
from epic100.scoring.metrics import TASKS
from support.small_report import make_report


def text_of(page: str) -> str:
    """Remove tags and styles from an HTML page, and join its words by single spaces."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


def test_the_report_has_accuracies_with_intervals_and_dropped_segments(tmp_path):
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


def test_a_run_on_the_official_val_split_is_compared_with_published_models(tmp_path):
    figures = {"segments": 9668, "predicted": 9668, "action_head_accuracy_at_1": 44.4}
    text = text_of(make_report(tmp_path, **figures))
    titles = [model.title for model in published().values()]
    assert "this run" in text and all(f"{title} published" in text for title in titles)
    # LaViLa published the accuracy of its action head, not the leaderboard's figure.
    assert "LaViLa TimeSformer-B published 69.0 58.4 - 46.9" in text
    assert "SlowFast R50, 8x8 published 65.6 50.0 38.5 -" in text and "44.4" in text
    summary = summary_of(tmp_path)
    assert "Published" in summary and "38.5" in summary


def test_a_run_on_other_segments_is_not_compared_with_published_models(tmp_path):
    text = text_of(make_report(tmp_path))
    assert "this run has 40" in text and "SlowFast" not in text
    assert "Published" not in summary_of(tmp_path)


# The interval of the difference is one point to both sides, so that only the first one contains 0.
@pytest.mark.parametrize("difference", [0.25, -40.0], ids=["agrees", "differs"])
def test_an_adopted_model_is_compared_with_its_published_figures(tmp_path, difference):
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
    # Where figures differ, the causes to look for are listed.
    for page in (text, summary):
        assert ("the order of the classes" in page) == (not agrees)


@pytest.mark.parametrize(
    "figures, words",
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
def test_figures_that_say_little_have_a_warning_on_top(tmp_path, figures, words):
    assert f"Warning. {words}" in text_of(make_report(tmp_path, **figures))
    assert summary_of(tmp_path).splitlines()[0] == f"Warning. {words}"


def test_seen_participants_are_all_but_the_unseen_ones():
    participants = {
        name: {"segments": count} | {f"{task}_accuracy_at_1": accuracy for task in TASKS}
        for name, count, accuracy in (("P01", 30, 50.0), ("P02", 10, 90.0), ("P18", 5, 0.0))
    }
    diagnostics = {f"{task}_mean_class_accuracy": 1.0 for task in TASKS}
    diagnostics |= {"participants": participants}
    figures = {"segments": 45, "predicted": 45, "beyond_train": 0, "diagnostics": diagnostics}
    rows = {name: (count, percents) for name, count, percents in official_rows(figures, ["P18"])}
    # 30 segments have 50 %, and 10 have 90 %.
    assert rows["seen participants, top-1"] == (40, pytest.approx([60.0] * 3))
    assert rows["unseen participants, top-1"][0] == 5
    assert rows["tail classes, top-1"] == (None, [None] * 3)
    # Without a list of unseen ones, it would be the row of all segments again.
    assert "seen participants, top-1" not in [name for name, *_ in official_rows(figures, [])]


def test_a_figure_that_is_no_svg_file_is_an_error(tmp_path):
    (tmp_path / "a.svg").write_text("no SVG")
    with pytest.raises(EpicError, match="no SVG file .* make it again"):
        read_figure(tmp_path / "a.svg")


def test_the_summary_has_dropped_segments_and_figures(tmp_path):
    figures = {f"overall_{task}_accuracy_at_{k}": 12.5 for task in TASKS for k in (1, 5)}
    make_report(tmp_path, **figures)
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
