"""Submissions are made from predictions; with few or none, export warns and check fails."""

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.cli.program import main
from epic100.model.model_file import digest
from epic100.scoring.folding import fold_pairs, prior_logprobs
from epic100.scoring.predictions import write_predictions
from epic100.scoring.submission import export
from epic100.scoring.submission_file import build, write_zip
from support.made_up import FEW, FEW_PAIRS, predictions, segment_list

SLS = {"pt": 2, "tl": 3, "td": 3}


def export_to(out, made, listed=FEW, reduce="max", sls=SLS, **sources):
    """Export these predictions for a list of segments; the inputs are written next to `out`."""
    write_predictions(made, out.with_name("val.pt"))
    segments = segment_list(out.with_name("val.txt"), listed)
    export(out.with_name("val.pt"), segments, out, split="val", reduce=reduce, sls=sls, **sources)


@pytest.mark.parametrize("suffix, reduce", [(".pt", "max"), (".zip", "logsumexp")])
def test_a_missing_prediction_becomes_the_training_prior(tmp_path, caplog, suffix, reduce):
    predicted = FEW[:2:-1]
    made = predictions(predicted)
    prior = prior_logprobs(torch.tensor([count for _, _, count in FEW_PAIRS]))
    row_of_segment = dict(zip(predicted, made.log_probs, strict=True))
    rows = torch.stack([row_of_segment.get(name, prior) for name in FEW])
    pairs = torch.tensor([(verb, noun) for verb, noun, _ in FEW_PAIRS])
    entries = build(FEW, *fold_pairs(rows, pairs, 97, 300, reduce))
    write_tensors(entries, tmp_path / "expected.pt")
    write_zip(entries, tmp_path / "expected.zip", SLS)
    out = tmp_path / f"submission{suffix}"
    export_to(out, made, reduce=reduce)
    assert out.read_bytes() == (tmp_path / f"expected{suffix}").read_bytes()
    assert f"{out}: 12 segments of val, 9 predicted, 3 with the training prior" in caplog.text


@pytest.mark.parametrize(
    "made, listed, reduce, words",
    [
        pytest.param(
            predictions([*FEW[:3], "P99_01_0"]),
            FEW,
            "max",
            "split val name P99_01_0, which is not of the",
            id="segment of no split",
        ),
        pytest.param(
            predictions(split="test"),
            FEW,
            "max",
            r"val\.pt: predictions of split 'test', expected 'val'; .*`e",
            id="other split",
        ),
        pytest.param(
            predictions(),
            FEW,
            "mean",
            "export: reduce is 'mean'; expected one of logsumexp, max",
            id="unknown reduction method",
        ),
        pytest.param(
            predictions(),
            [*FEW, FEW[4]],
            "max",
            "has the narration_id 'P01_11_4' more than once; expected",
            id="segment listed twice",
        ),
    ],
)
def test_wrong_predictions_or_lists_leave_no_submission(tmp_path, made, listed, reduce, words):
    with pytest.raises(EpicError, match=words):
        export_to(tmp_path / "submission.pt", made, listed, reduce)
    assert not (tmp_path / "submission.pt").exists()


@pytest.mark.parametrize(
    "listed, weights, words",
    [
        pytest.param(
            FEW,
            b"other",
            r"val\.pt: made with another model than .*model\.pth; make it again with `snakemake -R",
            id="other model",
        ),
        pytest.param(
            [*FEW, "P01_11_99"],
            b"",
            "lacks 1 segments, the first is P01_11_99; expected the 13 of",
            id="segment without prediction",
        ),
        pytest.param(
            FEW[:-2],
            b"",
            "has, against the list, 2 segments, the first is P01_11_10; expected the 10 of",
            id="predictions without segment",
        ),
    ],
)
def test_foreign_predictions_leave_no_submission(tmp_path, listed, weights, words):
    model = tmp_path / "model.pth"
    model.touch()
    made = predictions(model=digest(model))
    model.write_bytes(weights)
    clean = segment_list(tmp_path / "clean.txt", listed)
    with pytest.raises(EpicError, match=words):
        export_to(tmp_path / "submission.pt", made, model=model, clean=clean)
    assert not (tmp_path / "submission.pt").exists()


def test_contradicting_supervision_levels_are_a_warning(tmp_path, caplog):
    made = predictions(trained_on={"split": "trainval", "load_from": None})
    export_to(tmp_path / "submission.zip", made)
    assert "export: sls: pt is 2, but the model was trained from scratch: 0" in caplog.text
    assert "export: sls: td is 3, but the model was trained on trainval: 4" in caplog.text
    assert "the model learned from val" in caplog.text
    caplog.clear()
    export_to(tmp_path / "submission.zip", made, sls={"pt": 0, "tl": 3, "td": 4})
    assert "sls" not in caplog.text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder; dropped.tsv has a reason for each segment, in case it is not predicted."""
    (tmp_path / "results/clean").mkdir(parents=True)
    # 8 of the 12 segments are without a video, and 4 touch damage.
    reasons = ["video missing", "video missing", "touches damaged frames 3-9 (corrupt)"] * 4
    lines = [f"{name}\tval\t{reason}" for name, reason in zip(FEW, reasons, strict=True)]
    text = "\n".join(["narration_id\tsplit\treason", *lines, "P01_12_0\ttrain\tvideo missing", ""])
    (tmp_path / "results/clean/dropped.tsv").write_text(text)
    (tmp_path / "annotations").mkdir()
    rows = "\n".join(["narration_id", *FEW, ""])
    (tmp_path / "annotations/EPIC_100_validation.csv").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(folder, predicted):
    """Export predictions of the first `predicted` segments, and return the name of the file."""
    clean = segment_list(folder / "results/clean/val.txt", FEW[:predicted])
    export_to(folder / "submission.zip", predictions(FEW[:predicted]), clean=clean)
    return "submission.zip"


def test_submitting_without_a_prediction_has_a_reason(folder, capsys, caplog):
    name = exported(folder, 0)
    words = (
        "12 of 12 segments (100.0%) without a prediction: 8 video missing, 4 touches damaged frames"
    )
    assert words in caplog.text and "worth little" in caplog.text
    assert main(["submission", "check", name, "--split", "val"]) == 1
    out = capsys.readouterr().out
    assert f"all scores are the same in {words}; expected at most 50%: bring the videos" in out
    # Without the files of a run, no reasons are known.
    (folder / "results/clean/dropped.tsv").unlink()
    assert main(["submission", "check", name, "--split", "val"]) == 1
    assert "12 of 12 segments (100.0%) without a prediction; exp" in capsys.readouterr().out


@pytest.mark.parametrize(
    "predicted, option, code, words",
    [
        pytest.param(12, [], 0, "", id="all of 12"),
        pytest.param(
            9,
            [],
            0,
            "hint: all scores are the same in 3 of 12 segments (25.0%) without a prediction: 2 vid",
            id="9 of 12",
        ),
        pytest.param(5, [], 1, "all scores", id="5 of 12"),
        pytest.param(0, ["--allow-prior", "1"], 0, "hint: all scores", id="none, as allowed"),
        pytest.param(5, ["--allow-prior", "0.6"], 0, "hint: all scores", id="5, as allowed"),
        pytest.param(9, ["--allow-prior", "0.2"], 1, "all scores", id="9, more are asked for"),
    ],
)
def test_the_share_without_prediction_can_be_chosen(
    folder, capsys, caplog, predicted, option, code, words
):
    name = exported(folder, predicted)
    assert ("worth little" in caplog.text) == (predicted < 6), "6 are half of the segments"
    assert main(["submission", "check", name, "--split", "val", *option]) == code
    printed = capsys.readouterr().out
    assert printed.startswith(words) and bool(printed) == bool(words)
