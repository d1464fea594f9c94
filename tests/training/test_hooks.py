"""The hook that compiles the backbone, and the metric that computes the figures of a validation."""

import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch

from epic100.data.pairs import read_pairs
from epic100.model.registered import LOSS_FIELD
from epic100.scoring.folding import fold_pairs
from epic100.scoring.metrics import group_accuracies, group_members, officially_correct
from epic100.scoring.pair_metric import EpicPairMetric
from epic100.training.hooks import CompileHook


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile wants a C++ compiler")
def test_a_compiled_backbone_has_equal_outputs_and_weights():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.ReLU())
    clips, names = torch.randn(2, 3, 5, 8, 8), list(net.state_dict())
    expected = net(clips)
    net[1].reset_running_stats()
    CompileHook().before_train(SimpleNamespace(model=SimpleNamespace(backbone=net)))
    assert torch.allclose(net(clips), expected, atol=1e-6)
    assert list(net.state_dict()) == names


VERBS, NOUNS = 97, 300


@pytest.mark.parametrize("reduce", ["max", "logsumexp"])
def test_a_validation_has_the_official_metrics(lab, reduce):
    pair_file = f"{lab.results}/clean/pairs.tsv"
    pairs = [(verb, noun) for verb, noun, _ in read_pairs(pair_file)]
    generator = torch.Generator().manual_seed(0)
    scores = (3 * torch.randn(30, len(pairs), generator=generator)).softmax(dim=1)
    # The last 3 of 30 segments have a pair that no train segment has, so no score is for it.
    pair_ids = [number % len(pairs) for number in range(27)]
    labels = [*(pairs[pair_id] for pair_id in pair_ids), *[(90, 290)] * 3]
    samples = [
        {"pred_score": score, "verb": verb, "noun": noun}
        for score, (verb, noun) in zip(scores, labels, strict=True)
    ]
    # The head gave its figures to the samples whose pair train has.
    for number, sample in enumerate(samples[:27]):
        sample[LOSS_FIELD] = {"loss": float(number), "top1_acc": 0.5, "hand_acc": 0.25}
    # A segment that cannot be read does not count.
    broken = {**samples[0], "verb": 1, "noun": 1, "broken": True}
    metric = EpicPairMetric(pair_file, VERBS, NOUNS, reduce)
    for batch in (samples[:7], [broken], [*samples[7:], broken]):
        metric.process(None, batch)
    # A sample keeps its float32 scores and a few bytes more, but not the batch that they are of.
    sample_bytes = 4 * (VERBS + NOUNS) + 1000
    assert len(pickle.dumps(metric.results)) < sample_bytes * len(metric.results)
    figures = metric.evaluate(size=32)
    # The head's figures are means over these samples; its top-k accuracies are not the official.
    assert figures.pop("epic/loss") == sum(range(27)) / 27
    assert figures.pop("epic/hand_acc") == 0.25
    verb, noun = fold_pairs(scores.log(), torch.tensor(pairs), VERBS, NOUNS, reduce)
    verbs, nouns = zip(*labels, strict=True)
    members = group_members(verbs, nouns, [""] * 30, [], [], [])
    correct = officially_correct(verb, noun, verbs, nouns)
    official = group_accuracies(correct, {"overall": members["overall"]})
    assert figures == {f"epic/{key}": value for key, value in official.items()}
    # The figures are neither those of no guess nor those of perfect guesses.
    assert 0 < figures["epic/overall_action_accuracy_at_1"] < 90
