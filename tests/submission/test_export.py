import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import digest
from epic100.scoring.completion import complete_scores
from epic100.scoring.folding import fold_pairs, prior_logprobs
from epic100.scoring.predictions import write_predictions
from epic100.submission import build, write_pt, write_zip
from epic100.submission.export import export
from support.few_predictions import IDS, PAIRS, predictions, segment_list
from support.limits import largest_file

SLS = {"pt": 2, "tl": 3, "td": 3}


REFUSED = [
    ({"ids": [*IDS[:3], "P99_01_0"]}, IDS, "max", "split val name P99_01_0, which is not of the"),
    ({"ids": [*IDS[:3], IDS[0]]}, IDS, "max", "split val name a segment twice; make them again"),
    ({"log_probs": torch.tensor([0.0, torch.nan]).repeat(12, 2)}, IDS, "max",
     "split val: 12 segments hold NaN or infinity, the first is P01_11_0; look at the"),
    ({"pairs": PAIRS[:3]}, IDS, "max", "the pair table has 3 pairs, but the scores have 4"),
    ({"pairs": [*PAIRS[:3], (97, 0, 1)]}, IDS, "max", "pair 3 .* has verb 97, expected 0 to 96"),
    ({"split": "test"}, IDS, "max", r"val\.pt: predictions of split 'test', expected 'val'; .*`e"),
    ({}, IDS, "mean", "export: reduce is 'mean'; expected one of logsumexp, max"),
    ({}, [*IDS, IDS[4]], "max", "has the narration_id 'P01_11_4' more than once; expected"),
    ({}, [*IDS, "", ""], "max", "split val has the narration_id '' more than once; expected"),
]  # fmt: skip


class Stage:
    """The inputs of the rule export in a folder, and what it writes there."""

    def __init__(self, folder, made=None, ids=IDS):
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
    some = [IDS[i] for i in rng.permutation(len(IDS))[: int(rng.integers(1, len(IDS)))]]
    made = predictions(some, seed)
    verb, noun, predicted = complete_scores(made, IDS, reduce)
    assert verb.shape == (12, 97) and noun.shape == (12, 300)
    assert [i for i, known in zip(IDS, predicted, strict=True) if known] == sorted(
        some, key=IDS.index
    )
    pairs = torch.tensor([pair[:2] for pair in PAIRS])
    prior = prior_logprobs(torch.tensor([pair[2] for pair in PAIRS]))
    for place, name in enumerate(IDS):
        row = made.log_probs[some.index(name)] if name in some else prior
        own_verb, own_noun = fold_pairs(row[None], pairs, 97, 300, reduce)
        assert torch.equal(verb[place], own_verb[0]) and torch.equal(noun[place], own_noun[0])


def test_without_any_prediction_all_get_the_prior_of_the_most_frequent_pair():
    verb, noun, predicted = complete_scores(predictions([]), IDS, "max")
    assert not predicted.any()
    assert (verb.argmax(dim=1) == 9).all() and (noun.argmax(dim=1) == 7).all()
    assert (verb.exp().sum(dim=1) - 1).abs().max() < 1e-6


def test_pt_and_zip_hold_the_completed_scores_of_every_segment_to_the_byte(tmp_path, caplog):
    made = predictions(IDS[3:])
    stage = Stage(tmp_path, made)
    stage.export()
    entries = build(IDS, *complete_scores(made, IDS, "max")[:2])
    write_pt(entries, tmp_path / "a.pt")
    write_zip(entries, tmp_path / "a.zip", SLS)
    for path, same in ((stage.pt, tmp_path / "a.pt"), (stage.zip, tmp_path / "a.zip")):
        assert path.read_bytes() == same.read_bytes()
        assert f"{path}: 12 segments of val, 9 predicted, 3 with the training prior" in caplog.text


@pytest.mark.parametrize("made, listed, reduce, words", REFUSED)
def test_predictions_that_do_not_fit_are_one_error_and_no_output(
    tmp_path, made, listed, reduce, words
):
    stage = Stage(tmp_path, predictions(**made), listed)
    with pytest.raises(EpicError, match=words):
        stage.export(reduce=reduce)
    assert stage.written() == (False, False)


@pytest.mark.parametrize("content", [b"", b"words\n"])
def test_what_is_no_predictions_file_is_one_error(tmp_path, content):
    stage = Stage(tmp_path)
    stage.predictions.write_bytes(content)
    with pytest.raises(EpicError, match=r"val\.pt: not readable as predictions"):
        stage.export()
    assert stage.written() == (False, False)


def test_predictions_of_another_checkpoint_are_one_error_and_no_output(tmp_path):
    model = tmp_path / "model.pth"
    model.write_bytes(b"weights")
    stage = Stage(tmp_path, predictions(model=digest(model)))
    stage.export(tmp_path / "fits.pt", model=model)
    model.write_bytes(b"other weights")
    words = r"val\.pt: made with another model than .*model\.pth; make it again with `snakemake -R"
    with pytest.raises(EpicError, match=words):
        stage.export(model=model)
    assert stage.written() == (False, False)


@pytest.mark.parametrize(
    "listed, words",
    [
        ([*IDS, "P01_11_99"], r"lacks 1 segments, the first is P01_11_99; expected the 13 of"),
        (
            IDS[:-2],
            r"has, against the list, 2 segments, the first is P01_11_10; expected the 10 of",
        ),
    ],
)
def test_predictions_for_another_clean_list_are_one_error_and_no_output(tmp_path, listed, words):
    stage = Stage(tmp_path)
    stage.export(tmp_path / "fits.pt", clean=segment_list(tmp_path / "clean.txt"))
    with pytest.raises(EpicError, match=words):
        stage.export(clean=segment_list(tmp_path / "clean.txt", listed))
    assert stage.written() == (False, False)


@pytest.mark.parametrize("name", ["submission.pt", "submission.zip"])
def test_a_disk_that_fills_leaves_the_old_submission_and_one_line(tmp_path, name):
    stage = Stage(tmp_path)
    (tmp_path / name).write_text("old")
    before = sorted(tmp_path.iterdir())
    words = f"{name}: not written: File too large; make"
    with largest_file(500), pytest.raises(EpicError, match=words):
        stage.export(tmp_path / name)
    assert (tmp_path / name).read_text() == "old" and sorted(tmp_path.iterdir()) == before


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
