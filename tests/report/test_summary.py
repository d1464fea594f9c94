import json

import pytest

from epic100.report.summary import write_summary
from epic100.scoring.metrics import TASKS

P01, P22 = "P01\t9\t9\t9\n", "P22\t8\t7\t2\n"
MISSING = "s0\tval\tvideo missing\ns1\tval\tvideo missing\ns2\tval\tvideo unreadable: moov\n"


@pytest.fixture
def summary(tmp_path):
    def summary(segments, predicted, dropped="", **figures):
        """The text for these figures."""
        head = "participant_id\tsegments\tkept_by_segment\tkept_by_video\n"
        salvage, metrics, out = (tmp_path / n for n in ("salvage.tsv", "metrics.json", "text"))
        salvage.write_text(head + P01 + P22)
        figures = {"trained_on": {}} | figures
        figures |= {"segments": segments, "predicted": predicted, "reduce": "max"}
        metrics.write_text(json.dumps(figures))
        if dropped:
            (tmp_path / "dropped.tsv").write_text(f"narration_id\tsplit\treason\n{dropped}")
        write_summary(salvage, metrics, tmp_path / "dropped.tsv", out)
        return out.read_text()

    return summary


def test_damage_and_figures_stand_on_one_screen_and_absent_ones_are_a_dash(summary):
    figures = {f"overall_{task}_accuracy_at_{k}": 12.5 for task in TASKS for k in (1, 5)}
    text = summary(20, 17, **figures, **{f"tail_{task}_accuracy_at_1": None for task in TASKS})
    assert "learned from these" not in text
    assert "P22: 7 of 8 segments kept" in text and "P01" not in text
    assert "all: 16 of 17 segments kept; dropping whole videos: 11" in text
    assert "20 segments, 17 of them predicted" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["overall", "12.50", "12.50", "12.50", "top-1"] in rows
    assert ["tail", "-", "-", "-", "top-1"] in rows


@pytest.mark.parametrize("segments", [9668, 9667])
def test_published_figures_stand_beside_a_run_on_the_whole_val_split_alone(summary, segments):
    text = summary(segments, segments)
    assert ("Published" in text and "38.5" in text) == (segments == 9668)


def test_figures_of_a_model_that_learned_from_val_are_marked(summary):
    text = summary(9, 9, trained_on={"split": "trainval"})
    assert "The model learned from these segments too" in text


def test_a_model_without_videos_is_called_worth_little_in_the_first_line(summary):
    assert summary(4, 1, MISSING + "s3\ttrain\tvideo missing\n").splitlines()[0] == (
        "WARNING: these figures are worth little: 3 of 4 segments (75.0%) without a prediction: "
        "2 video missing, 1 video unreadable"
    )
