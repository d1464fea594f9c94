"""Predictions: their file, the mean of several models, and pairs folded to verbs and nouns."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel, digest_of, save_model
from epic100.scoring.folding import FLOOR, fold_joint, fold_pairs, prior_logprobs
from epic100.scoring.predictions import (
    FORMAT,
    Predictions,
    average,
    average_files,
    checked_predictions,
    complete_scores,
    read_predictions,
    write_predictions,
)
from support.made_up import FEW, FEW_PAIRS, predictions

MADE = predictions(FEW[:3], model="abc", trained_on={"split": "train", "load_from": None})


def test_predictions_are_read_as_they_were_written(tmp_path):
    for name in ("val.pt", "another.pt"):
        write_predictions(MADE, tmp_path / name)
    found = read_predictions(tmp_path / "val.pt", "val")
    assert (found.narration_ids, found.pairs) == (FEW[:3], FEW_PAIRS)
    assert found.model == "abc" and found.trained_on["load_from"] is None
    assert torch.equal(found.log_probs, MADE.log_probs)
    # The bytes do not depend on the name of the file.
    assert (tmp_path / "another.pt").read_bytes() == (tmp_path / "val.pt").read_bytes()


@pytest.mark.parametrize(
    "change, words",
    [
        pytest.param(
            lambda content: content.pop("pair_head"),
            "not a predictions file of this version .*-R predict`",
            id="a key is missing",
        ),
        pytest.param(
            lambda content: content.update(format="epic100 predictions 1"),
            "not a .* this version .* again",
            id="format of an earlier version",
        ),
        pytest.param(
            lambda content: content.update(split="test"),
            "predictions of split 'test', expected 'val'",
            id="other split",
        ),
        pytest.param(
            lambda content: content["narration_ids"].pop(),
            "2 narration_ids, but 3 elsewhere",
            id="an id is missing",
        ),
        pytest.param(
            lambda content: content["narration_ids"].insert(0, [["a"] * 9] * 9),
            "its narration_ids.0 is ",
            id="an id is a list",
        ),
        pytest.param(
            lambda content: content["narration_ids"].__setitem__(0, FEW[1]),
            "it has a segment twice",
            id="an id is there twice",
        ),
        pytest.param(
            lambda content: content["pairs"].__setitem__(1, (0, 300, 3)),
            "its pair 1 is verb 0, noun 300; exp",
            id="a noun beyond its classes",
        ),
        pytest.param(
            lambda content: content["pairs"].__setitem__(1, (0, 1, 3)),
            "it has a pair twice",
            id="a pair is there twice",
        ),
        pytest.param(
            lambda content: content.update(num_verbs=2**40),
            "its num_verbs is 1099511627776: ",
            id="too many verbs",
        ),
        pytest.param(
            lambda content: content.update(log_probs=content["log_probs"].int()),
            "its log_probs: .* is int32",
            id="scores are integers",
        ),
        pytest.param(
            lambda content: content["log_probs"][1].fill_(torch.nan),
            "its log_probs: .* the first is number 1",
            id="a score is NaN",
        ),
        pytest.param(
            lambda content: content.update(verb_log_probs=torch.zeros(3, 97)),
            "it has scores of one head alone",
            id="scores of verbs without nouns",
        ),
    ],
)
def test_predictions_with_other_content_are_rejected(change, words):
    content = copy.deepcopy({"format": FORMAT, **vars(MADE)})
    change(content)
    with pytest.raises(EpicError, match=rf"val\.pt: {words}"):
        checked_predictions(content, "val.pt", "val")


TRAINED_ON = {"split": "train", "segments": 9, "load_from": None}


def member(model, ids, pairs, probabilities):
    """Make the predictions of a member of an ensemble, a model of 3 verbs and 4 nouns.

    Args:
        model: The digest of the model.
        ids: The narration ids.
        pairs: (verb, noun, count in training) of each column.
        probabilities: A row for each id, a column for each pair.
    """
    log_probs = torch.tensor(probabilities).log()
    return Predictions(
        "val", ids, log_probs, pairs, num_verbs=3, num_nouns=4, trained_on=TRAINED_ON, model=model
    )


ONE = member("1", ["a", "b"], [(0, 1, 5), (1, 2, 3)], [[0.75, 0.25], [0.5, 0.5]])
# The other member has the segments in another order, and pair (2, 3) in place of (1, 2).
TWO = member("2", ["b", "a"], [(2, 3, 1), (0, 1, 6)], [[0.25, 0.75], [0.5, 0.5]])


def test_a_member_without_a_pair_gives_0():
    mean = average([ONE, TWO])
    assert mean.pairs == [(0, 1, 6), (1, 2, 3), (2, 3, 1)] and mean.narration_ids == ["a", "b"]
    # Segment a has pair (0, 1) with 0.75 and 0.5, and (1, 2) with 0.25 and 0.
    expected = torch.tensor([[0.625, 0.125, 0.25], [0.625, 0.25, 0.125]])
    torch.testing.assert_close(mean.log_probs.exp(), expected)
    assert mean.verb_log_probs is None and mean.pair_head
    assert mean.model != average([TWO, ONE]).model and average([ONE]).model == "1"


def test_sums_over_pairs_replace_missing_heads():
    verb = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]).log()
    noun = torch.full((2, 4), 0.25).log()
    heads_alone = replace(ONE, verb_log_probs=verb, noun_log_probs=noun, pair_head=False)
    mean = average([heads_alone, TWO])
    assert mean.pair_head
    # In segment a, the other member has verb 0 with 0.5 and verb 2 with 0.5.
    expected = torch.tensor([0.35, 0.15, 0.5])
    torch.testing.assert_close(mean.verb_log_probs.exp()[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(mean.noun_log_probs.exp().sum(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"num_verbs": 5}, id="classes"),
        pytest.param({"split": "test"}, id="split"),
        pytest.param({"narration_ids": ["b", "c"]}, id="segments"),
    ],
)
def test_members_with_other_classes_or_segments_are_rejected(change):
    with pytest.raises(EpicError, match="differ in split, classes or segments"):
        average([ONE, replace(TWO, **change)])


def test_an_ensemble_has_its_highest_supervision_level():
    kinetics = replace(TWO, trained_on={"split": "trainval", "load_from": "k400.pth"})
    trained_on = average([ONE, kinetics]).trained_on
    assert trained_on["split"] == "trainval" and trained_on["load_from"] == "k400.pth"
    assert [model["split"] for model in trained_on["models"]] == ["train", "trainval"]


def test_averages_belong_to_models_in_order(tmp_path):
    models = [str(tmp_path / "1.pth"), str(tmp_path / "2.pth")]
    files = [tmp_path / "1.pt", tmp_path / "2.pt"]
    for model, file, made in zip(models, files, (ONE, TWO), strict=True):
        weights = {"cls_head.fc2.weight": torch.full((1, 2), float(made.model))}
        save_model(TrainedModel(weights, [(0, 1, 1)], 3, 4, {"a": 1}, TRAINED_ON), model)
        write_predictions(replace(made, model=digest_of(model)), file)
    average_files(files, models, tmp_path / "val.pt", "val")
    assert read_predictions(tmp_path / "val.pt", "val", model=models).model == digest_of(models)
    with pytest.raises(EpicError, match="made with another model"):
        read_predictions(tmp_path / "val.pt", "val", model=models[0])
    with pytest.raises(EpicError, match="made with another model"):
        average_files(files[::-1], models, tmp_path / "val.pt", "val")


# Numbers of verbs, nouns and pairs.
V, M, P = 7, 11, 30


@pytest.fixture
def pairs():
    """Pairs of 7 verbs and 11 nouns; verb 6 and noun 10 are in none."""
    chosen = torch.randperm((V - 1) * (M - 1), generator=torch.Generator().manual_seed(1))[:P]
    return torch.stack([chosen // (M - 1), chosen % (M - 1)], dim=1)


def draw_logits(rows, scale=3.0):
    """Draw logits of the pairs, [rows, P]."""
    return torch.randn(rows, P, generator=torch.Generator().manual_seed(2)) * scale


def fold_by_loop(logits, classes, size, reduce):
    """Fold the logits of one row to probabilities of classes, pair by pair."""
    total = sum(math.exp(logit) for logit in logits)
    members = [[0.0] for _ in range(size)]
    for logit, class_id in zip(logits, classes, strict=True):
        members[class_id].append(math.exp(logit) / total)
    folded = [sum(m) if reduce == "logsumexp" else max(m) for m in members]
    return [probability / sum(folded) for probability in folded]


@pytest.mark.parametrize("reduce", ["logsumexp", "max"])
def test_folding_agrees_with_a_loop_over_pairs(pairs, reduce):
    logits = draw_logits(5)
    folded = fold_pairs(logits, pairs, V, M, reduce)
    for scores, classes, size in zip(folded, pairs.T.tolist(), (V, M), strict=True):
        expected = [fold_by_loop(row, classes, size, reduce) for row in logits.tolist()]
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores.exp(), torch.tensor(expected), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("reduce", ["logsumexp", "max"])
@pytest.mark.parametrize("scale", [0.0, 3.0, 300.0, 1e30])
def test_a_class_without_pairs_is_least_probable(pairs, reduce, scale):
    # 2500 rows are more than one chunk.
    folded = fold_pairs(draw_logits(2500, scale), pairs, V, M, reduce)
    # The last class has no pair.
    for scores in folded:
        assert scores.isfinite().all()
        assert (scores.double().exp().sum(dim=1) - 1).abs().max() < 1e-6
        assert (scores[:, -1] <= scores.amin(dim=1)).all()
        assert (scores[:, -1] <= FLOOR + 1e-5).all()
        if scale <= 3:
            assert torch.allclose(scores[:, -1], torch.tensor(FLOOR))


def test_improbable_classes_do_not_underflow():
    pairs = torch.tensor([[0, 0], [1, 1], [1, 2], [2, 3]])
    verb, _ = fold_pairs(torch.tensor([[0.0, -2000, -2000, -3000]]), pairs, 3, 4)
    # Verb 1 has two pairs of exp(-2000).
    torch.testing.assert_close(verb, torch.tensor([[0.0, -2000 + math.log(2), -3000]]))


def test_an_unknown_reduction_method_is_rejected(pairs):
    with pytest.raises(EpicError, match="'mean', expected one of logsumexp, max"):
        fold_pairs(draw_logits(2), pairs, V, M, "mean")


def test_the_prior_is_log_training_frequency():
    # A count of 0 is raised to 0.5, and the sum is 10.
    found = prior_logprobs(torch.tensor([6, 0, 3.5])).exp()
    torch.testing.assert_close(found, torch.tensor([0.6, 0.05, 0.35]))


@pytest.fixture
def three_heads():
    """Predictions of 6 segments by a model with heads of 20 pairs, 7 verbs and 9 nouns."""
    torch.manual_seed(0)
    every = torch.cartesian_prod(torch.arange(7), torch.arange(9))
    pairs = [(verb, noun, 1) for verb, noun in every[torch.randperm(63)[:20]].tolist()]
    pair, verb, noun = (torch.randn(6, size).mul(3).log_softmax(dim=1) for size in (20, 7, 9))
    heads = {"verb_log_probs": verb, "noun_log_probs": noun}
    return Predictions("val", [*"abcdef"], pair, pairs, 7, 9, {}, **heads)


def test_joint_scores_are_the_best_of_all_combinations(three_heads):
    pairs = torch.tensor(three_heads.pairs)[:, :2]
    heads = (three_heads.log_probs, three_heads.verb_log_probs, three_heads.noun_log_probs)
    pair, verb, noun = (scores.exp() for scores in heads)
    grid = verb[:, :, None] * noun[:, None] / 2
    grid[:, pairs[:, 0], pairs[:, 1]] += pair / 2
    folded = fold_joint(heads[0], pairs, heads[1], heads[2])
    for found, other_axis in zip(folded, (2, 1), strict=True):
        expected = grid.amax(dim=other_axis).log().log_softmax(dim=1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # Segment x has no prediction.
    verb_scores, _, _ = complete_scores(three_heads, ["x", *"abcdef"], "joint")
    prior, _ = fold_pairs(torch.zeros(1, 20), pairs, 7, 9, "max")
    torch.testing.assert_close(verb_scores, torch.cat([prior, folded[0]]))


def test_joint_scores_need_all_three_heads(three_heads):
    without_pair_head = replace(three_heads, pair_head=False)
    words = "reduce is 'joint'; .*the model lacks a head: `train: heads"
    with pytest.raises(EpicError, match=words):
        complete_scores(without_pair_head, [*"abcdef"], "joint")
