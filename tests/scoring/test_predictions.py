"""The file of predictions, and the mean of several models' ones."""

from dataclasses import replace

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel, digest_of, save_model
from epic100.scoring.averaging import average, average_files, check_models
from epic100.scoring.predictions import Predictions, read_predictions, write_predictions
from support.small_predictions import FEW, FEW_PAIRS, predictions

MADE = predictions(FEW[:3], model="abc", trained_on={"split": "train", "load_from": None})


@pytest.fixture
def path(tmp_path):
    write_predictions(MADE, tmp_path / "val.pt")
    return tmp_path / "val.pt"


def test_what_was_written_is_read_and_the_bytes_do_not_depend_on_the_name(path, tmp_path):
    found = read_predictions(path, "val")
    assert (found.narration_ids, found.pairs) == (FEW[:3], FEW_PAIRS)
    assert found.model == "abc" and found.trained_on["load_from"] is None
    assert torch.equal(found.log_probs, MADE.log_probs)
    write_predictions(MADE, tmp_path / "another.pt")
    assert (tmp_path / "another.pt").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c.pop("pair_head"), "not a predictions file of this version .*make it again"),
        (lambda c: c.update(format="epic100 predictions 1"), "not a .* this version .* again"),
        (lambda c: c.update(split="test"), "predictions of split 'test', expected 'val'"),
        (lambda c: c["narration_ids"].pop(), "2 narration_ids, but 3 elsewhere"),
        (lambda c: c["narration_ids"].insert(0, [["a"] * 9] * 9), "its narration_ids.0 is "),
        (lambda c: c["narration_ids"].__setitem__(0, FEW[1]), "it has a segment twice"),
        (lambda c: c.update(num_verbs=2**40), "its num_verbs is 1099511627776: "),
        (lambda c: c.update(log_probs=c["log_probs"].int()), "its log_probs: .* is int32"),
        (lambda c: c["log_probs"][1].fill_(torch.nan), "its log_probs: .* the first is number 1"),
        (lambda c: c.update(verb_log_probs=torch.zeros(3, 97)), "it has scores of one head alone"),
    ],
)
def test_a_file_of_another_kind_or_split_is_one_line(path, change, words):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(EpicError, match=rf"val\.pt: {words}"):
        read_predictions(path, "val")


ABOUT = {"split": "train", "segments": 9, "load_from": None}


def predictions(pairs, rows, ids=("a", "b"), **more):
    log_probs = torch.tensor(rows).log()
    fields = {"trained_on": ABOUT, "model": "1", **more}
    return Predictions("val", list(ids), log_probs, pairs, 3, 4, **fields)


ONE = predictions([(0, 1, 5), (1, 2, 3)], [[0.75, 0.25], [0.5, 0.5]])
# Another order of segments, a pair that the first lacks, and one that it has itself not.
TWO = predictions([(2, 3, 1), (0, 1, 6)], [[0.25, 0.75], [0.5, 0.5]], ids=("b", "a"), model="2")


def test_pairs_meet_by_verb_and_noun_and_a_pair_that_one_lacks_counts_as_0_there():
    mean = average([ONE, TWO])
    assert mean.pairs == [(0, 1, 6), (1, 2, 3), (2, 3, 1)] and mean.narration_ids == ["a", "b"]
    expected = torch.tensor([[0.625, 0.125, 0.25], [0.625, 0.25, 0.125]])
    torch.testing.assert_close(mean.log_probs.exp(), expected)
    assert mean.verb_log_probs is None and mean.pair_head
    assert mean.model != average([TWO, ONE]).model and average([ONE]).model == "1"


def test_heads_are_averaged_and_sums_over_pairs_stand_for_those_that_a_model_lacks():
    verb = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]).log()
    noun = torch.full((2, 4), 0.25).log()
    mean = average([replace(ONE, verb_log_probs=verb, noun_log_probs=noun, pair_head=False), TWO])
    assert mean.pair_head
    torch.testing.assert_close(
        mean.verb_log_probs.exp()[0], torch.tensor([0.35, 0.15, 0.5]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(mean.noun_log_probs.exp().sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("change", [{"num_verbs": 5}, {"split": "test"},
                                    {"narration_ids": ["b", "c"]}])  # fmt: skip
def test_what_is_of_other_classes_or_segments_is_refused(change):
    with pytest.raises(EpicError, match="differ in split, classes or segments"):
        average([ONE, replace(TWO, **change)])


def test_levels_of_supervision_follow_from_all_models():
    kinetics = replace(TWO, trained_on={"split": "trainval", "load_from": "k400.pth"})
    about = average([ONE, kinetics]).trained_on
    assert about["split"] == "trainval" and about["load_from"] == "k400.pth"
    assert [model["split"] for model in about["models"]] == ["train", "trainval"]


def model(path, verbs=3, seed=0):
    head = {"cls_head.fc2.weight": torch.full((1, 2), float(seed))}
    save_model(TrainedModel(head, [(0, 1, 1)], verbs, 4, {"a": 1}, ABOUT), path)
    return str(path)


@pytest.mark.parametrize("second, words", [
    ({"verbs": 97}, r"2\.pth: has 97 verbs and 4 nouns, .*1\.pth 3 and 4"),
    ({}, r"2\.pth: is in `predict: models:` twice"),
])  # fmt: skip
def test_models_are_checked_together_before_any_predicts(tmp_path, second, words):
    one, two = model(tmp_path / "1.pth"), model(tmp_path / "2.pth", seed=1)
    check_models([one, two], tmp_path / "ok")
    assert len((tmp_path / "ok").read_text().splitlines()) == 2
    with pytest.raises(EpicError, match=words):
        check_models([one, model(tmp_path / "2.pth", **second)], tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_the_mean_is_held_against_all_its_models(tmp_path):
    models = [model(tmp_path / "1.pth"), model(tmp_path / "2.pth", seed=1)]
    parts = []
    for part, path in zip((ONE, TWO), models, strict=True):
        parts.append(tmp_path / f"{part.model}.pt")
        write_predictions(replace(part, model=digest_of(path)), parts[-1])
    average_files(parts, models, tmp_path / "val.pt", "val")
    assert read_predictions(tmp_path / "val.pt", "val", model=models).model == digest_of(models)
    with pytest.raises(EpicError, match="made with another model"):
        read_predictions(tmp_path / "val.pt", "val", model=models[0])
    with pytest.raises(EpicError, match="made with another model"):
        average_files(parts[::-1], models, tmp_path / "val.pt", "val")
