import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS

from epic100.model.head_sizes import head_logits, head_sizes
from epic100.model.heads import HeadsLoss
from epic100.model.loss import LogitAdjustedLoss

PAIRS = [(0, 1, 6), (0, 2, 3), (2, 1, 1)]
SKEWED = [(0, 0, 80), (0, 1, 15), (3, 1, 5)]
VERBS, NOUNS = 3, 4


@pytest.fixture
def pairs(tmp_path, request):
    """A pair table: `PAIRS`, or those of the test's parameter."""
    path = tmp_path / "pairs.tsv"
    table = enumerate(getattr(request, "param", PAIRS))
    rows = [f"{i}\t{v}\t{n}\t{c}\n" for i, (v, n, c) in table]
    path.write_text("pair_id\tverb\tnoun\tcount\n" + "".join(rows))
    return str(path)


def loss(pairs, heads, **more):
    return MODELS.build({"type": "HeadsLoss", "pairs": pairs, "heads": heads, "num_verbs": VERBS,
                         "num_nouns": NOUNS, **more})  # fmt: skip


def test_outputs_are_taken_apart_in_the_order_of_the_last_layer():
    assert head_sizes("pair", 3, 97, 300) == {"pair": 3}
    assert head_sizes("verb_noun", 3, 97, 300) == {"verb": 97, "noun": 300}
    sizes = head_sizes("both", 2, 1, 3)
    parts = head_logits(torch.arange(6.0)[None], sizes)
    assert {name: part.tolist() for name, part in parts.items()} == {
        "pair": [[0, 1]], "verb": [[2]], "noun": [[3, 4, 5]],
    }  # fmt: skip


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_sum_of_each_head_s_own(pairs, smoothing):
    torch.manual_seed(0)
    label = torch.tensor([2, 0, 1, 2])
    verb, noun = torch.tensor([2, 0, 0, 2]), torch.tensor([1, 1, 2, 1])
    scores = torch.randn(4, 3 + VERBS + NOUNS, requires_grad=True)
    expected = [F.cross_entropy(scores[:, :3], label, label_smoothing=smoothing),
                F.cross_entropy(scores[:, 3:6], verb, label_smoothing=smoothing),
                F.cross_entropy(scores[:, 6:], noun, label_smoothing=smoothing)]  # fmt: skip
    both = loss(pairs, "both", smoothing=smoothing)(scores, label)
    torch.testing.assert_close(both, sum(expected))
    both.backward()
    assert (scores.grad.abs().sum(dim=1) > 0).all()
    two = loss(pairs, "verb_noun", smoothing=smoothing)(scores[:, 3:], label)
    torch.testing.assert_close(two, expected[1] + expected[2])


def test_each_head_is_adjusted_by_its_own_prior(pairs):
    scores = torch.zeros(1, 3 + VERBS + NOUNS)
    label = torch.tensor([0])
    found = loss(pairs, "both", tau=1.0)(scores, label)
    pair = torch.tensor([6.0, 3, 1])
    verb = torch.tensor([9.0, 1, 1])  # a class without a segment counts as one
    noun = torch.tensor([1.0, 7, 3, 1])
    expected = -(pair / pair.sum()).log()[0] - (verb / verb.sum()).log()[0]
    expected = expected - (noun / noun.sum()).log()[1]
    torch.testing.assert_close(found, expected)
    assert isinstance(loss(pairs, "both"), HeadsLoss)


@pytest.mark.parametrize("pairs", [SKEWED], indirect=True)
def test_logit_adjustment_is_equation_10_of_menon(pairs):
    scores = torch.tensor([[1.0, 0.5, -1.0], [0.0, 0.0, 0.0]])
    label = torch.tensor([2, 0])
    prior = torch.tensor([0.80, 0.15, 0.05])
    adjusted = torch.exp(scores) * prior**1.5
    expected = -torch.log(adjusted[[0, 1], label] / adjusted.sum(1)).mean()
    assert torch.allclose(LogitAdjustedLoss(pairs, tau=1.5)(scores, label), expected)


def test_a_model_with_logit_adjustment_is_built_where_the_pair_table_is_not(tmp_path):
    loss = LogitAdjustedLoss(str(tmp_path / "gone.tsv"))
    assert not loss.state_dict()
