import json

from epic100.report.summary import write_summary
from epic100.scoring.metrics import TASKS


def test_damage_and_figures_stand_on_one_screen_and_absent_ones_are_a_dash(tmp_path):
    (tmp_path / "salvage.tsv").write_text(
        "participant_id\tsegments\tkept_by_segment\tkept_by_video\nP01\t9\t9\t9\nP22\t8\t7\t2\n"
    )
    figures = {f"overall_{task}_accuracy_at_{k}": 12.5 for task in TASKS for k in (1, 5)}
    figures |= {f"tail_{task}_accuracy_at_1": None for task in TASKS}
    figures |= {"segments": 20, "predicted": 17, "reduce": "max"}
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    write_summary(tmp_path / "salvage.tsv", tmp_path / "metrics.json",
                  tmp_path / "dropped.tsv", tmp_path / "summary.txt")  # fmt: skip
    text = (tmp_path / "summary.txt").read_text()
    assert "learned from these" not in text
    assert "P22: 7 of 8 segments kept" in text and "P01" not in text
    assert "all: 16 of 17 segments kept; dropping whole videos: 11" in text
    assert "20 segments, 17 of them predicted" in text
    overall, tail = (next(s for s in text.splitlines() if s.strip().startswith(name))
                     for name in ("overall", "tail"))  # fmt: skip
    assert overall.split() == ["overall", "12.50", "12.50", "12.50", "top-1"]
    assert tail.split() == ["tail", "-", "-", "-", "top-1"]


def test_published_figures_stand_beside_a_run_on_the_whole_val_split_and_no_other(tmp_path):
    (tmp_path / "salvage.tsv").write_text(
        "participant_id\tsegments\tkept_by_segment\tkept_by_video\nP01\t9\t9\t9\n"
    )
    for segments in (9668, 9667):
        figures = {"segments": segments, "predicted": segments, "reduce": "max"}
        (tmp_path / "metrics.json").write_text(json.dumps(figures))
        write_summary(tmp_path / "salvage.tsv", tmp_path / "metrics.json",
                      tmp_path / "dropped.tsv", tmp_path / "summary.txt")  # fmt: skip
        text = (tmp_path / "summary.txt").read_text()
        assert ("Published" in text and "38.5" in text) == (segments == 9668)


def test_figures_of_a_model_that_learned_from_val_are_marked(tmp_path):
    (tmp_path / "salvage.tsv").write_text(
        "participant_id\tsegments\tkept_by_segment\tkept_by_video\nP01\t9\t9\t9\n"
    )
    figures = {"segments": 9, "predicted": 9, "reduce": "max", "trained_on": {"split": "trainval"}}
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    write_summary(tmp_path / "salvage.tsv", tmp_path / "metrics.json",
                  tmp_path / "dropped.tsv", tmp_path / "summary.txt")  # fmt: skip
    assert "The model learned from these segments too" in (tmp_path / "summary.txt").read_text()


def test_a_model_without_videos_is_called_worth_little_in_the_first_line(tmp_path):
    (tmp_path / "salvage.tsv").write_text(
        "participant_id\tsegments\tkept_by_segment\tkept_by_video\nP01\t9\t4\t4\n"
    )
    rows = ["s0\tval\tvideo missing", "s1\tval\tvideo missing", "s2\tval\tvideo unreadable: moov",
            "s3\ttrain\tvideo missing"]  # fmt: skip
    (tmp_path / "dropped.tsv").write_text("\n".join(["narration_id\tsplit\treason", *rows, ""]))
    figures = {"segments": 4, "predicted": 1, "reduce": "max"}
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    write_summary(tmp_path / "salvage.tsv", tmp_path / "metrics.json", tmp_path / "dropped.tsv",
                  tmp_path / "summary.txt")  # fmt: skip
    first = (tmp_path / "summary.txt").read_text().splitlines()[0]
    assert first == (
        "WARNING: these figures are worth little: 3 of 4 segments (75.0%) without a prediction: "
        "2 video missing, 1 video unreadable"
    )
