"""Submissions that rest on few predictions, or on none: export warns, check fails."""

import pytest

from epic100.scoring.predictions import write_predictions
from epic100.submission.__main__ import main
from epic100.submission.export import export
from support.few_predictions import IDS, predictions, segment_list

SLS = {"pt": 2, "tl": 3, "td": 3}
REASONS = ["video missing", "video missing", "touches damaged frames 3-9 (corrupt)"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder, with a reason for each segment in case that it is not predicted."""
    (tmp_path / "results/clean").mkdir(parents=True)
    lines = [f"{name}\tval\t{REASONS[i % 3]}" for i, name in enumerate(IDS)]
    text = "\n".join(["narration_id\tsplit\treason", *lines, "P01_12_0\ttrain\tvideo missing", ""])
    (tmp_path / "results/clean/dropped.tsv").write_text(text)
    (tmp_path / "annotations").mkdir()
    rows = "\n".join(["narration_id", *IDS, ""])
    (tmp_path / "annotations/EPIC_100_validation.csv").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(folder, predicted, name):
    """Export with predictions of the first `predicted` segments."""
    write_predictions(predictions(IDS[:predicted]), folder / "val.pt")
    clean = segment_list(folder / "results/clean/val.txt", IDS[:predicted])
    export(folder / "val.pt", segment_list(folder / "val.txt"), folder / name, split="val",
           reduce="max", sls=SLS, clean=clean)  # fmt: skip
    return name


@pytest.mark.parametrize("name", ["submission.pt", "submission.zip"])
def test_a_submission_without_a_prediction_is_no_good_and_the_reasons_are_counted(
    folder, capsys, caplog, name
):
    exported(folder, 0, name)
    words = (
        "12 of 12 segments (100.0%) without a prediction: 8 video missing, 4 touches damaged frames"
    )
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("worth little" in line and words in line for line in warned)
    assert main(["check", name, "--split", "val"]) == 1
    out = capsys.readouterr().out
    assert f"all scores are the same in {words}; expected at most 50%: bring the videos" in out
    assert main(["check", name, "--split", "val", "--allow-prior", "1"]) == 0


@pytest.mark.parametrize("predicted, share, code", [
    (9, [], 0), (5, [], 1), (5, ["--allow-prior", "0.6"], 0), (9, ["--allow-prior", "0.2"], 1),
])  # fmt: skip
def test_the_share_that_may_be_without_a_prediction_can_be_chosen(folder, predicted, share, code):
    name = exported(folder, predicted, "submission.pt")
    assert main(["check", name, "--split", "val", *share]) == code


@pytest.mark.parametrize("predicted, hint", [
    (9, "hint: all scores are the same in 3 of 12 segments (25.0%) without a prediction: 2 video"),
    (12, ""),
])  # fmt: skip
def test_a_small_share_is_a_hint(folder, capsys, caplog, predicted, hint):
    name = exported(folder, predicted, "submission.pt")
    assert "worth little" not in caplog.text
    assert main(["check", name, "--split", "val"]) == 0
    said = capsys.readouterr().out
    assert hint in said and ("all scores" in said) == bool(hint)


def test_a_file_without_a_run_beside_it_is_checked_without_reasons(folder, capsys):
    name = exported(folder, 0, "submission.pt")
    (folder / "results/clean/dropped.tsv").unlink()
    assert main(["check", name, "--split", "val"]) == 1
    assert "12 of 12 segments (100.0%) without a prediction; exp" in capsys.readouterr().out
