"""Submissions of predictions; of few or of none: export warns, check fails."""

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.cli.program import main
from epic100.model.model_file import digest
from epic100.scoring.folding import fold_pairs, prior_logprobs
from epic100.scoring.predictions import complete_scores, write_predictions
from epic100.submission.export import export
from epic100.submission.files import build, write_zip
from support.made_up import FEW, FEW_PAIRS, predictions, segment_list

SLS = {"pt": 2, "tl": 3, "td": 3}


class Stage:
    """The inputs of the rule export in a folder, and what it writes there."""

    def __init__(self, folder, made=None, ids=FEW):
        self.predictions = folder / "val.pt"
        write_predictions(made or predictions(), self.predictions)
        self.segments = segment_list(folder / "val.txt", ids)
        self.pt, self.zip = folder / "submission.pt", folder / "submission.zip"

    def export(self, out=None, split="val", reduce="max", sls=SLS, **kwargs):
        for path in (self.pt, self.zip) if out is None else (out,):
            export(
                self.predictions, self.segments, path, split=split, reduce=reduce, sls=sls, **kwargs
            )

    def written(self):
        return self.pt.exists(), self.zip.exists()


@pytest.mark.parametrize("reduce", ["max", "logsumexp"])
@pytest.mark.parametrize("seed", range(3))
def test_scores_stand_in_the_split_s_order_and_the_rest_get_the_training_prior(seed, reduce):
    rng = np.random.default_rng(seed)
    some = [FEW[i] for i in rng.permutation(len(FEW))[: int(rng.integers(1, len(FEW)))]]
    made = predictions(some, seed)
    prior = prior_logprobs(torch.tensor([pair[2] for pair in FEW_PAIRS]))
    row_of_segment = dict(zip(some, made.log_probs, strict=True))
    rows = torch.stack([row_of_segment.get(name, prior) for name in FEW])
    pairs = torch.tensor([pair[:2] for pair in FEW_PAIRS])
    expected = fold_pairs(rows, pairs, 97, 300, reduce)
    verb, noun, predicted = complete_scores(made, FEW, reduce)
    assert torch.equal(verb, expected[0]) and torch.equal(noun, expected[1])
    assert predicted.tolist() == [name in some for name in FEW]


def test_pt_and_zip_hold_the_completed_scores_of_every_segment_to_the_byte(tmp_path, caplog):
    made = predictions(FEW[3:])
    stage = Stage(tmp_path, made)
    stage.export()
    entries = build(FEW, *complete_scores(made, FEW, "max")[:2])
    write_tensors(entries, tmp_path / "a.pt")
    write_zip(entries, tmp_path / "a.zip", SLS)
    for path, same in ((stage.pt, tmp_path / "a.pt"), (stage.zip, tmp_path / "a.zip")):
        assert path.read_bytes() == same.read_bytes()
        assert f"{path}: 12 segments of val, 9 predicted, 3 with the training prior" in caplog.text


@pytest.mark.parametrize(
    "made, listed, reduce, words",
    [
        (
            {"ids": [*FEW[:3], "P99_01_0"]},
            FEW,
            "max",
            "split val name P99_01_0, which is not of the",
        ),
        (
            {"split": "test"},
            FEW,
            "max",
            r"val\.pt: predictions of split 'test', expected 'val'; .*`e",
        ),
        ({}, FEW, "mean", "export: reduce is 'mean'; expected one of logsumexp, max"),
        ({}, [*FEW, FEW[4]], "max", "has the narration_id 'P01_11_4' more than once; expected"),
        ({}, [*FEW, "", ""], "max", "split val has the narration_id '' more than once; expected"),
    ],
)
def test_predictions_that_do_not_fit_are_one_error_and_no_output(
    tmp_path, made, listed, reduce, words
):
    stage = Stage(tmp_path, predictions(**made), listed)
    with pytest.raises(EpicError, match=words):
        stage.export(reduce=reduce)
    assert stage.written() == (False, False)


AGAIN = r"val\.pt: made with another model than .*model\.pth; make it again with `snakemake -R"


@pytest.mark.parametrize(
    "listed, weights, words",
    [
        (FEW, b"other", AGAIN),
        ([*FEW, "P01_11_99"], b"", "lacks 1 segments, the first is P01_11_99; expected the 13 of"),
        (
            FEW[:-2],
            b"",
            r"has, against the list, 2 segments, the first is P01_11_10; expected the 10 of",
        ),
    ],
)
def test_predictions_of_another_model_or_list_are_one_error_and_no_output(
    tmp_path, listed, weights, words
):
    made_of = {"model": tmp_path / "model.pth", "clean": segment_list(tmp_path / "clean.txt")}
    made_of["model"].touch()
    stage = Stage(tmp_path, predictions(model=digest(made_of["model"])))
    stage.export(tmp_path / "fits.pt", **made_of)
    made_of["model"].write_bytes(weights)
    segment_list(made_of["clean"], listed)
    with pytest.raises(EpicError, match=words):
        stage.export(**made_of)
    assert stage.written() == (False, False)


def test_levels_of_supervision_that_contradict_the_training_are_said(tmp_path, caplog):
    stage = Stage(tmp_path, predictions(trained_on={"split": "trainval", "load_from": None}))
    stage.export(stage.zip)
    said = caplog.text
    assert "export: sls: pt is 2, but the model was trained from scratch: 0" in said
    assert "export: sls: td is 3, but the model was trained on trainval: 4" in said
    assert "the model learned from val" in said
    caplog.clear()
    stage.export(stage.zip, sls={"pt": 0, "tl": 3, "td": 4})
    assert "sls" not in caplog.text


REASONS = ["video missing", "video missing", "touches damaged frames 3-9 (corrupt)"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder, with a reason for each segment in case that it is not predicted."""
    (tmp_path / "results/clean").mkdir(parents=True)
    lines = [f"{name}\tval\t{REASONS[i % 3]}" for i, name in enumerate(FEW)]
    text = "\n".join(["narration_id\tsplit\treason", *lines, "P01_12_0\ttrain\tvideo missing", ""])
    (tmp_path / "results/clean/dropped.tsv").write_text(text)
    (tmp_path / "annotations").mkdir()
    rows = "\n".join(["narration_id", *FEW, ""])
    (tmp_path / "annotations/EPIC_100_validation.csv").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(folder, predicted, name):
    """Export with predictions of the first `predicted` segments."""
    clean = segment_list(folder / "results/clean/val.txt", FEW[:predicted])
    Stage(folder, predictions(FEW[:predicted])).export(folder / name, clean=clean)
    return name


@pytest.mark.parametrize("name", ["submission.pt", "submission.zip"])
def test_a_submission_without_a_prediction_is_no_good_and_the_reasons_are_counted(
    folder, capsys, caplog, name
):
    exported(folder, 0, name)
    words = (
        "12 of 12 segments (100.0%) without a prediction: 8 video missing, 4 touches damaged frames"
    )
    assert words in caplog.text and "worth little" in caplog.text
    assert main(["submission", "check", name, "--split", "val"]) == 1
    out = capsys.readouterr().out
    assert f"all scores are the same in {words}; expected at most 50%: bring the videos" in out
    # Without a run beside it, no reasons are known.
    (folder / "results/clean/dropped.tsv").unlink()
    assert main(["submission", "check", name, "--split", "val"]) == 1
    assert "12 of 12 segments (100.0%) without a prediction; exp" in capsys.readouterr().out


FEW_LACK = "hint: all scores are the same in 3 of 12 segments (25.0%) without a prediction: 2 video"


@pytest.mark.parametrize(
    "predicted, share, code, words",
    [
        (12, [], 0, ""),
        (9, [], 0, FEW_LACK),
        (5, [], 1, "all scores"),
        (0, ["--allow-prior", "1"], 0, "hint: all scores"),
        (5, ["--allow-prior", "0.6"], 0, "hint: all scores"),
        (9, ["--allow-prior", "0.2"], 1, "all scores"),
    ],
)
def test_the_share_that_may_be_without_a_prediction_can_be_chosen(
    folder, capsys, caplog, predicted, share, code, words
):
    name = exported(folder, predicted, "submission.pt")
    assert ("worth little" in caplog.text) == (predicted < 6)
    assert main(["submission", "check", name, "--split", "val", *share]) == code
    said = capsys.readouterr().out
    assert said.startswith(words) and bool(said) == bool(words)
