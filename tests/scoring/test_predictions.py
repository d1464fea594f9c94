"""Predictions: their file, the mean of several models, and pairs folded to verbs and nouns."""

import math
from dataclasses import replace

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel, digest_of, save_model
from epic100.scoring.folding import FLOOR, fold_joint, fold_pairs, prior_logprobs
from epic100.scoring.predictions import (
    Predictions,
    average,
    average_files,
    complete_scores,
    read_predictions,
    write_predictions,
)
from support.made_up import FEW, FEW_PAIRS, predictions

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
        (lambda c: c.pop("pair_head"), "not a predictions file of this version .*-R predict`"),
        (lambda c: c.update(format="epic100 predictions 1"), "not a .* this version .* again"),
        (lambda c: c.update(split="test"), "predictions of split 'test', expected 'val'"),
        (lambda c: c["narration_ids"].pop(), "2 narration_ids, but 3 elsewhere"),
        (lambda c: c["narration_ids"].insert(0, [["a"] * 9] * 9), "its narration_ids.0 is "),
        (lambda c: c["narration_ids"].__setitem__(0, FEW[1]), "it has a segment twice"),
        (lambda c: c["pairs"].__setitem__(1, (0, 300, 3)), "its pair 1 is verb 0, noun 300; exp"),
        (lambda c: c["pairs"].__setitem__(1, (0, 1, 3)), "it has a pair twice"),
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
# Its segments are in another order. It has a pair that the first lacks, and lacks one that the
# first has.
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


@pytest.mark.parametrize(
    "change", [{"num_verbs": 5}, {"split": "test"}, {"narration_ids": ["b", "c"]}]
)
def test_what_is_of_other_classes_or_segments_is_refused(change):
    with pytest.raises(EpicError, match="differ in split, classes or segments"):
        average([ONE, replace(TWO, **change)])


def test_levels_of_supervision_follow_from_all_models():
    kinetics = replace(TWO, trained_on={"split": "trainval", "load_from": "k400.pth"})
    about = average([ONE, kinetics]).trained_on
    assert about["split"] == "trainval" and about["load_from"] == "k400.pth"
    assert [model["split"] for model in about["models"]] == ["train", "trainval"]


def test_the_mean_is_held_against_all_its_models(tmp_path):
    models, parts = [str(tmp_path / "1.pth"), str(tmp_path / "2.pth")], []
    for number, (part, path) in enumerate(zip((ONE, TWO), models, strict=True)):
        weights = {"cls_head.fc2.weight": torch.full((1, 2), float(number))}
        save_model(TrainedModel(weights, [(0, 1, 1)], 3, 4, {"a": 1}, ABOUT), path)
        parts.append(tmp_path / f"{part.model}.pt")
        write_predictions(replace(part, model=digest_of(path)), parts[-1])
    average_files(parts, models, tmp_path / "val.pt", "val")
    assert read_predictions(tmp_path / "val.pt", "val", model=models).model == digest_of(models)
    with pytest.raises(EpicError, match="made with another model"):
        read_predictions(tmp_path / "val.pt", "val", model=models[0])
    with pytest.raises(EpicError, match="made with another model"):
        average_files(parts[::-1], models, tmp_path / "val.pt", "val")


V, M, P = 7, 11, 30


@pytest.fixture
def pairs():
    """30 of the pairs of 7 verbs and 11 nouns; verb 6 and noun 10 are in none."""
    chosen = torch.randperm((V - 1) * (M - 1), generator=torch.Generator().manual_seed(1))[:P]
    return torch.stack([chosen // (M - 1), chosen % (M - 1)], dim=1)


def logits(rows, scale=3.0):
    return torch.randn(rows, P, generator=torch.Generator().manual_seed(2)) * scale


def loop_fold(row, pairs, column, size, reduce):
    """Probabilities of one row, class by class, in Python floats."""
    total = sum(math.exp(x) for x in row)
    members = [[] for _ in range(size)]
    for x, pair in zip(row, pairs.tolist(), strict=True):
        members[pair[column]].append(math.exp(x) / total)
    folded = [(sum if reduce == "logsumexp" else max)(m) if m else 0.0 for m in members]
    return [p / sum(folded) for p in folded]


@pytest.mark.parametrize("reduce", ["logsumexp", "max"])
def test_folding_agrees_with_a_loop_over_pairs(pairs, reduce):
    x = logits(5)
    for scores, column, size in zip(
        fold_pairs(x, pairs, V, M, reduce), (0, 1), (V, M), strict=True
    ):
        expected = [loop_fold(row, pairs, column, size, reduce) for row in x.tolist()]
        assert scores.dtype == torch.float32 and scores.shape == (5, size)
        torch.testing.assert_close(scores.exp(), torch.tensor(expected), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("reduce", ["logsumexp", "max"])
@pytest.mark.parametrize("scale", [0.0, 3.0, 300.0, 1e30])
def test_rows_are_normalised_and_finite_with_the_floor_in(pairs, reduce, scale):
    # One chunk does not hold so many rows.
    x = logits(2500, scale)
    for scores, empty in zip(fold_pairs(x, pairs, V, M, reduce), (V - 1, M - 1), strict=True):
        assert scores.isfinite().all()
        assert (scores.double().exp().sum(dim=1) - 1).abs().max() < 1e-6
        held = torch.cat([scores[:, :empty], scores[:, empty + 1 :]], dim=1).amin(dim=1)
        assert (scores[:, empty] <= held).all()
        assert (scores[:, empty] <= FLOOR + 1e-5).all()
        if scale <= 3:
            assert torch.allclose(scores[:, empty], torch.tensor(FLOOR))


def test_improbable_classes_do_not_underflow():
    pairs = torch.tensor([[0, 0], [1, 1], [1, 2], [2, 3]])
    verb, _ = fold_pairs(torch.tensor([[0.0, -2000, -2000, -3000]]), pairs, 3, 4)
    torch.testing.assert_close(verb, torch.tensor([[0.0, -2000 + math.log(2), -3000]]))


def test_an_unknown_way_to_fold_is_refused(pairs):
    with pytest.raises(EpicError, match="'mean', expected one of logsumexp, max"):
        fold_pairs(logits(2), pairs, V, M, "mean")


@pytest.mark.parametrize(
    "counts, shares",
    [
        ([6, 3, 1], [0.6, 0.3, 0.1]),
        ([3, 0], [6 / 7, 1 / 7]),
    ],
)
def test_the_prior_is_the_log_of_the_training_frequency(counts, shares):
    torch.testing.assert_close(prior_logprobs(torch.tensor(counts)).exp(), torch.tensor(shares))


def test_joint_scores_are_the_best_of_the_whole_grid_and_of_the_prior_elsewhere():
    torch.manual_seed(0)
    every = torch.cartesian_prod(torch.arange(7), torch.arange(9))
    pairs = every[torch.randperm(len(every))[:20]]
    scores = [torch.randn(6, size).mul(3).log_softmax(dim=1) for size in (20, 7, 9)]
    grid = scores[1].exp()[:, :, None] * scores[2].exp()[:, None] / 2
    grid[:, pairs[:, 0], pairs[:, 1]] += scores[0].exp() / 2
    verb, noun = fold_joint(scores[0], pairs, *scores[1:])
    for found, axis in ((verb, 2), (noun, 1)):
        wanted = grid.amax(dim=axis).log().log_softmax(dim=1)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    table = [(*pair, 1) for pair in pairs.tolist()]
    both = {"verb_log_probs": scores[1], "noun_log_probs": scores[2]}
    made = Predictions("val", [*"abcdef"], scores[0], table, 7, 9, {}, **both)
    rows = complete_scores(made, [*"xabcdef"], "joint")
    torch.testing.assert_close(rows[0][1:], verb)
    prior = fold_pairs(prior_logprobs(torch.ones(20))[None], pairs, 7, 9, "max")
    torch.testing.assert_close(rows[0][:1], prior[0])
    none = replace(
        made, narration_ids=[], **{k: v[:0] for k, v in both.items()}, log_probs=scores[0][:0]
    )
    assert complete_scores(none, ["x"], "joint")[0].shape == (1, 7)
    with pytest.raises(
        EpicError, match="reduce is 'joint'; .*the model lacks a head: `train: heads"
    ):
        complete_scores(replace(made, pair_head=False), [*"abcdef"], "joint")
