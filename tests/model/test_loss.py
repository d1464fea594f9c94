import pytest
import torch

from epic100.model.loss import LogitAdjustedLoss


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("pair_id\tverb\tnoun\tcount\n0\t0\t0\t80\n1\t0\t1\t15\n2\t3\t1\t5\n")
    return path


def test_logit_adjustment_is_equation_10_of_menon(pairs):
    scores = torch.tensor([[1.0, 0.5, -1.0], [0.0, 0.0, 0.0]])
    label = torch.tensor([2, 0])
    prior = torch.tensor([0.80, 0.15, 0.05])
    adjusted = torch.exp(scores) * prior**1.5
    expected = -torch.log(adjusted[[0, 1], label] / adjusted.sum(1)).mean()
    assert torch.allclose(LogitAdjustedLoss(str(pairs), tau=1.5)(scores, label), expected)


def test_its_best_scores_are_those_of_the_balanced_error(pairs):
    # Segments that all look alike: plain cross-entropy would learn the prior, this learns 1/3 each.
    labels = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
    scores = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=1.0)
    loss = LogitAdjustedLoss(str(pairs), tau=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss(scores.expand(100, 3), labels).backward()
        optimizer.step()
    assert torch.allclose(scores.softmax(0), torch.full((3,), 1 / 3), atol=0.01)


def test_a_model_with_it_is_built_where_the_pair_table_is_not(tmp_path):
    loss = LogitAdjustedLoss(str(tmp_path / "gone.tsv"))
    assert not loss.state_dict()
