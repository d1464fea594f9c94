import math

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.scoring.folding import FLOOR, fold_pairs, prior_logprobs

V, M, P = 7, 11, 30


@pytest.fixture
def pairs():
    """30 of the pairs of 7 verbs and 11 nouns; verb 6 and noun 10 are in none."""
    chosen = torch.randperm((V - 1) * (M - 1), generator=torch.Generator().manual_seed(1))[:P]
    return torch.stack([chosen // (M - 1), chosen % (M - 1)], dim=1)


def changed(pairs, place, to):
    pairs = pairs.clone()
    pairs[place] = to
    return pairs


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
    x = logits(2500, scale)  # more rows than one chunk holds
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


def test_max_gives_the_members_of_the_best_pair(pairs):
    x = logits(500)
    best = [scores.argmax(dim=1) for scores in fold_pairs(x, pairs, V, M, reduce="max")]
    assert torch.equal(torch.stack(best, dim=1), pairs[x.argmax(dim=1)])


def factored(rows, pairs, scale=1.5):
    """Logits of a model that sees verb and noun apart, so that both can point beyond the table."""
    generator = torch.Generator().manual_seed(3)
    verb, noun = (torch.randn(rows, size, generator=generator) * scale for size in (V, M))
    return verb[:, pairs[:, 0]] + noun[:, pairs[:, 1]]


@pytest.mark.parametrize("way", ["logsumexp", "max"])
def test_offsets_of_rows_do_not_matter(pairs, way):
    x = factored(100, pairs).half()
    offsets = torch.linspace(-1e4, 1e4, 100, dtype=torch.float64)[:, None]
    expected = fold_pairs(x.double(), pairs, V, M, way)
    for rows, tolerance in ((x.double() + offsets, None), (x, 0)):
        for scores, wanted in zip(fold_pairs(rows, pairs, V, M, way), expected, strict=True):
            torch.testing.assert_close(scores, wanted, rtol=tolerance, atol=tolerance)


BROKEN = logits(1500)
BROKEN[1033, 4], BROKEN[1040, 0], BROKEN[1499] = math.nan, math.inf, -math.inf


@pytest.mark.parametrize("change, words", [
    (lambda p: {"pairs": p[:-1]}, r"29 pairs, but the scores have 30 columns.*pairs\.tsv"),
    (lambda p: {"num_nouns": 9}, r"pair \d+ of the pair table has noun 9, expected 0 to 8"),
    (lambda p: {"pairs": changed(p, 3, -1)}, "pair 3 of the pair table has verb -1"),
    (lambda p: {"pairs": changed(p, 8, p[2])}, "twice"),
    (lambda p: {"reduce": "mean"}, "'mean', expected one of logsumexp, max"),
    (lambda p: {"pair_logprobs": BROKEN}, r"3 of 1500 rows .* first is row 1033"),
])  # fmt: skip
def test_what_cannot_be_folded_is_refused(pairs, change, words):
    given = {"pairs": pairs, "num_verbs": V, "num_nouns": M, "reduce": "max"}
    with pytest.raises(EpicError, match=words):
        fold_pairs(**{"pair_logprobs": logits(2)} | given | change(pairs))


@pytest.mark.parametrize("counts, shares", [
    ([6, 3, 1], [0.6, 0.3, 0.1]), ([3, 0], [6 / 7, 1 / 7]),
])  # fmt: skip
def test_the_prior_is_the_log_of_the_training_frequency(counts, shares):
    torch.testing.assert_close(prior_logprobs(torch.tensor(counts)).exp(), torch.tensor(shares))


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1], [1.0, math.nan]])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(EpicError, match="pair counts"):
        prior_logprobs(torch.tensor(counts))
