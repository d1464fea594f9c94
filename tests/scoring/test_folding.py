import math

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.scoring.folding import FLOOR, fold_pairs, fold_ways, prior_logprobs

V, M, P = 7, 11, 30


@pytest.fixture
def pairs():
    """30 of the pairs of 7 verbs and 11 nouns; verb 6 and noun 10 are in none."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm((V - 1) * (M - 1), generator=generator)[:P]
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
    expected = torch.tensor([[0.0, -2000 + math.log(2), -3000]])
    torch.testing.assert_close(verb, expected)


def test_max_gives_the_members_of_the_best_pair_and_logsumexp_the_marginal_best():
    pairs = torch.tensor([[0, 0], [1, 1], [1, 2], [2, 2]])
    x = torch.tensor([[0.35, 0.25, 0.2, 0.2]]).log()
    verb, noun = fold_pairs(x, pairs, 3, 3, reduce="max")
    assert (int(verb.argmax()), int(noun.argmax())) == (0, 0)
    verb, noun = fold_pairs(x, pairs, 3, 3, reduce="logsumexp")
    assert (int(verb.argmax()), int(noun.argmax())) == (1, 2)
    torch.testing.assert_close(verb.exp(), torch.tensor([[0.35, 0.45, 0.2]]))


def test_max_always_agrees_with_the_most_probable_pair(pairs):
    x = logits(500)
    verb, noun = fold_pairs(x, pairs, V, M, reduce="max")
    best = pairs[x.argmax(dim=1)]
    assert torch.equal(torch.stack([verb.argmax(dim=1), noun.argmax(dim=1)], dim=1), best)


def factored(rows, pairs, scale=1.5):
    """Logits of a model that sees verb and noun apart, so that both can point beyond the table."""
    generator = torch.Generator().manual_seed(3)
    verb, noun = (torch.randn(rows, size, generator=generator) * scale for size in (V, M))
    return verb[:, pairs[:, 0]] + noun[:, pairs[:, 1]]


def slow_back_off(x, pairs, weight):
    """The first verb and noun of each row, pair by pair in plain Python."""
    first = []
    table = [tuple(pair) for pair in pairs.tolist()]
    for row in x.double().softmax(dim=1).tolist():
        verbs, nouns = [0.0] * V, [0.0] * M
        for (v, n), p in zip(table, row, strict=True):
            verbs[v] += p
            nouns[n] += p
        v, n = verbs.index(max(verbs)), nouns.index(max(nouns))
        best = max(range(len(row)), key=row.__getitem__)
        new = (v, n) not in table and weight * verbs[v] * nouns[n] > row[best]
        first.append((v, n) if new else table[best])
    return first


@pytest.mark.parametrize("weight", [1.5, 2, 4])
def test_back_off_says_a_pair_beyond_the_table_where_both_marginals_do(pairs, weight):
    x = factored(400, pairs)
    verb, noun = fold_pairs(x, pairs, V, M, "max", weight)
    first = list(zip(verb.argmax(1).tolist(), noun.argmax(1).tolist(), strict=True))
    assert first == slow_back_off(x, pairs, weight)
    plain = fold_pairs(x, pairs, V, M, "max")
    same = torch.tensor([pair in map(tuple, pairs.tolist()) for pair in first])
    assert 0 < (~same).sum() < 400
    for scores, without in zip((verb, noun), plain, strict=True):
        assert torch.equal(scores[same], without[same])
        assert (scores.double().exp().sum(1) - 1).abs().max() < 1e-5


def test_back_off_takes_the_marginals_of_any_row_offset_and_leaves_logsumexp_alone(pairs):
    x = factored(100, pairs)
    shifted = x.double() + torch.linspace(-500, 500, 100, dtype=torch.float64)[:, None]
    for scores, wanted in zip(
        fold_pairs(shifted, pairs, V, M, "max", 2),
        fold_pairs(x, pairs, V, M, "max", 2),
        strict=True,
    ):
        torch.testing.assert_close(scores, wanted)
    for scores, wanted in zip(
        fold_pairs(x, pairs, V, M, backoff=2), fold_pairs(x, pairs, V, M), strict=True
    ):
        assert torch.equal(scores, wanted)
    for weight in (-1, math.nan, math.inf):
        with pytest.raises(EpicError, match="backoff is .*, expected a number from 0 on"):
            fold_pairs(x, pairs, V, M, "max", weight)


def test_ways_that_are_folded_together_are_those_that_are_folded_alone(pairs):
    x = factored(60, pairs)
    ways = [("max", 0), ("logsumexp", 0), ("max", 3), ("logsumexp", 3), ("max", 1.5)]
    for way, scores in zip(ways, fold_ways(x, pairs, V, M, ways), strict=True):
        for part, alone in zip(scores, fold_pairs(x, pairs, V, M, *way), strict=True):
            assert torch.equal(part, alone)


def test_offsets_of_rows_and_half_precision_do_not_matter(pairs):
    x = logits(40).half()
    expected = fold_pairs(x.double(), pairs, V, M)
    offsets = torch.linspace(-1e4, 1e4, 40, dtype=torch.float64)[:, None]
    for scores, wanted in zip(fold_pairs(x.double() + offsets, pairs, V, M), expected, strict=True):
        torch.testing.assert_close(scores, wanted)
    for scores, wanted in zip(fold_pairs(x, pairs, V, M), expected, strict=True):
        assert torch.equal(scores, wanted)


def test_non_finite_scores_are_counted_and_the_first_row_named(pairs):
    x = logits(1500)
    x[1033, 4], x[1040, 0], x[1499] = math.nan, math.inf, -math.inf
    with pytest.raises(EpicError, match=r"3 of 1500 rows .* first is row 1033"):
        fold_pairs(x, pairs, V, M)


def test_a_pair_table_that_does_not_fit_is_refused(pairs):
    x = logits(2)
    with pytest.raises(EpicError, match=r"29 pairs, but the scores have 30 columns.*pairs\.tsv"):
        fold_pairs(x, pairs[:-1], V, M)
    with pytest.raises(EpicError, match=r"pair \d+ of the pair table has noun 9, expected 0 to 8"):
        fold_pairs(x, pairs, V, 9)
    negative = pairs.clone()
    negative[3, 0] = -1
    with pytest.raises(EpicError, match="pair 3 of the pair table has verb -1"):
        fold_pairs(x, negative, V, M)
    twice = pairs.clone()
    twice[8] = twice[2]
    with pytest.raises(EpicError, match="twice"):
        fold_pairs(x, twice, V, M)
    with pytest.raises(EpicError, match=r"expected integers \[pairs, 2\]"):
        fold_pairs(x, pairs.T, V, M)


def test_wrong_arguments_are_refused(pairs):
    with pytest.raises(EpicError, match="'mean', expected one of logsumexp, max"):
        fold_pairs(logits(2), pairs, V, M, reduce="mean")
    with pytest.raises(EpicError, match=r"int64 \[2, 30\], expected a float tensor"):
        fold_pairs(logits(2).long(), pairs, V, M)


def test_the_prior_is_the_log_of_the_training_frequency():
    prior = prior_logprobs(torch.tensor([6, 3, 1]))
    torch.testing.assert_close(prior.exp(), torch.tensor([0.6, 0.3, 0.1]))
    prior = prior_logprobs(torch.tensor([3, 0]))
    torch.testing.assert_close(prior.exp(), torch.tensor([6 / 7, 1 / 7]))
    for counts in ([], [0, 0], [1, -1], [1.0, math.nan]):
        with pytest.raises(EpicError, match="pair counts"):
            prior_logprobs(torch.tensor(counts))
