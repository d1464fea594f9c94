"""What report and summary say: figures, warnings, published models; text of a run stays text."""

import json
import re

import pytest

from epic100.base.errors import EpicError
from epic100.model.published import published
from epic100.report.page import read_picture
from epic100.report.summary import write_summary
from epic100.report.tables import official_rows
from epic100.scoring.metrics import TASKS
from epic100.segments.drop_reasons import DropReason
from support.small_report import make_report


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


def test_the_first_page_has_accuracies_with_intervals_and_what_was_dropped(tmp_path):
    text = text_of(make_report(tmp_path, overall_action_accuracy_at_1=50.0))
    assert "50.0 % of the validation actions are right" in text
    # 20 of 40 are right. The interval is that of Wilson (1927).
    assert "actions, top-1 50.0 % 95 % interval 35.2-64.8" in text
    assert "val segments predicted 35 of 40" in text
    assert "video missing 5 0" in text and "segments kept, all splits 35 of 40" in text
    assert "7 of the segments kept are of videos judged by their decoder only" in text
    assert "Warning" not in text
    assert "Over all 40 segments, as the leaderboard counts. Over the 35 with readable" in text
    assert "train.seed 3" in text and "train.options.lr a text" in text


def test_a_run_on_the_official_val_split_is_shown_beside_published_models(tmp_path):
    (tmp_path / "all").mkdir()
    text = text_of(make_report(tmp_path / "all", segments=9668, predicted=9668,
                               action_head_accuracy_at_1=44.4))  # fmt: skip
    titles = [model.title for model in published().values()]
    assert "this run" in text and all(f"{title} published" in text for title in titles)
    # LaViLa published the accuracy of its action head, not the leaderboard's figure.
    assert "LaViLa TimeSformer-B published 69.0 58.4 - 46.9" in text
    assert "SlowFast R50, 8x8 published 65.6 50.0 38.5 -" in text and "44.4" in text
    other = text_of(make_report(tmp_path))
    assert not any(model.title in other for model in published().values())
    assert "this run has 40" in other


def row_of_published(what, difference, agrees):
    return {"segments": "all", "what": what, "published": 50.0, "here": 50.0 + difference,
            "difference": difference, "low": difference - 1, "high": difference + 1,
            "agrees": agrees}  # fmt: skip


@pytest.mark.parametrize("difference", [0.25, -40.0])
def test_an_adopted_model_is_shown_beside_its_published_figures(tmp_path, difference):
    """What makes a difference is named where there is one."""
    rows = [row_of_published("verb", difference, difference > 0),
            {**row_of_published("noun", 0.0, None), "published": None}]  # fmt: skip
    beside = {"name": "avion_b", "title": "AVION ViT-B", "rows": rows}
    text = text_of(make_report(tmp_path, beside_published=beside))
    assert "AVION ViT-B, top-1 as published and here" in text
    shown = f"all verb 50.0 {50 + difference:.1f} {difference:+.2f} {difference - 1:+.2f} to"
    assert shown in text and "all noun - 50.0" in text
    assert ("the order of the classes" in text) == (difference < 0)
    write_summary(*(tmp_path / name for name in (
        "salvage.tsv", "metrics.json", "dropped.tsv", "summary.txt")))  # fmt: skip
    lines = (tmp_path / "summary.txt").read_text()
    assert (
        ("DIFFERS" in lines) == (difference < 0)
        and "the order of the classes" in lines
        or (difference > 0 and "agrees" in lines)
    )


@pytest.mark.parametrize("figures, words", [
    ({"predicted": 3}, "Warning. These figures are worth little: 5 of 40 segments"),
    ({"trained_on": {"split": "trainval"}}, "Warning. The model learned from these segments too"),
])  # fmt: skip
def test_few_predictions_or_training_on_val_are_a_warning_on_top(tmp_path, figures, words):
    assert words in text_of(make_report(tmp_path, **figures))


def test_seen_participants_are_all_but_the_unseen_ones():
    participants = {
        name: {"segments": count} | {f"{task}_accuracy_at_1": accuracy for task in TASKS}
        for name, count, accuracy in (("P01", 30, 50.0), ("P02", 10, 90.0), ("P18", 5, 0.0))
    }
    diagnostics = {f"{task}_mean_class_accuracy": 1.0 for task in TASKS}
    diagnostics |= {"participants": participants}
    figures = {"segments": 45, "predicted": 45, "beyond_train": 0, "diagnostics": diagnostics}
    rows = {row.name: row for row in official_rows(figures, ["P18"])}
    seen = rows["seen participants, top-1"]
    assert seen.segments == 40 and seen.percents == pytest.approx([60.0] * 3)
    assert rows["unseen participants, top-1"].segments == 5
    assert rows["tail classes, top-1"].percents == [None] * 3
    without = [row.name for row in official_rows(figures, [])]
    # It would be a row of all segments, which is there already.
    assert "seen participants, top-1" not in without


def test_a_file_that_is_no_picture_is_an_error(tmp_path):
    (tmp_path / "a.svg").write_text("no SVG")
    with pytest.raises(EpicError, match="no SVG file .* make it again"):
        read_picture(tmp_path / "a.svg")


P01, P22 = "P01\t9\t9\t9\t5\t0\t\n", "P22\t8\t7\t2\t0\t0\t\n"
MISSING = "s0\tval\tvideo missing\ns1\tval\tvideo missing\ns2\tval\tvideo unreadable: moov\n"


@pytest.fixture
def summary(tmp_path):
    def summary(segments, predicted, dropped="", **figures):
        """The text for these figures."""
        head = "participant_id\tsegments\tkept_by_segment\tkept_by_video\tdecoder_only\t"
        salvage, metrics, out = (tmp_path / n for n in ("salvage.tsv", "metrics.json", "text"))
        salvage.write_text(f"{head}left_out\twhy\n{P01}{P22}")
        figures = {"trained_on": {}} | figures
        figures |= {"segments": segments, "predicted": predicted, "reduce": "max"}
        metrics.write_text(json.dumps(figures))
        (tmp_path / "dropped.tsv").write_text(f"narration_id\tsplit\treason\n{dropped}")
        write_summary(salvage, metrics, tmp_path / "dropped.tsv", out)
        return out.read_text()

    return summary


def test_a_video_that_is_held_back_is_named_with_the_way_to_take_it(summary):
    reason = DropReason.HELD_BACK.sentence("P01_02", "it lasts 5 s, the sheet says 9 s")
    text = summary(40, 38, dropped=f"a\tval\t{reason}\nb\ttrain\t{reason}\n{MISSING}")
    assert f"2 segments: {reason}" in text and "`videos: accept: [P01_02]`" in text


def test_damage_and_figures_stand_on_one_screen_and_absent_ones_are_a_dash(summary):
    figures = {f"overall_{task}_accuracy_at_{k}": 12.5 for task in TASKS for k in (1, 5)}
    text = summary(20, 17, **figures, **{f"tail_{task}_accuracy_at_1": None for task in TASKS})
    assert "P22: 7 of 8 segments kept" in text and "P01" not in text
    assert "all: 16 of 17 segments kept; dropping whole videos would keep 11" in text
    assert "5 of the segments kept are of videos judged by their decoder only" in text
    assert "20 segments, 17 of them predicted" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["overall", "12.50", "12.50", "12.50", "top-1"] in rows
    assert ["tail", "-", "-", "-", "top-1"] in rows


@pytest.mark.parametrize("segments", [9668, 9667])
def test_published_figures_stand_beside_a_run_on_the_whole_val_split_alone(summary, segments):
    text = summary(segments, segments)
    assert ("Published" in text and "38.5" in text) == (segments == 9668)


def test_a_model_without_videos_is_called_worth_little_in_the_first_line(summary):
    assert summary(4, 1, MISSING + "s3\ttrain\tvideo missing\n").splitlines()[0] == (
        "Warning. These figures are worth little: 3 of 4 segments (75.0%) without a prediction: "
        "2 video missing, 1 video unreadable."
    )
