"""The hook that compiles the backbone, and the metric that computes the figures of a validation.

test_run.py looks at a frozen BatchNorm, test_loop.py at the other hooks.
"""

import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from epic100.scoring.folding import fold_pairs
from epic100.scoring.metrics import official_metrics
from epic100.scoring.pair_metric import ACTION_TOP1, EpicPairMetric
from epic100.segments.pairs import read_pairs
from epic100.training.hooks import CompileHook


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile wants a C++ compiler")
def test_compilation_changes_the_time_and_not_the_sums():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.ReLU())
    x = torch.randn(2, 3, 5, 8, 8)
    expected = net(x)
    net[1].reset_running_stats()
    CompileHook().before_train(SimpleNamespace(model=SimpleNamespace(backbone=net)))
    assert torch.allclose(net(x), expected, atol=1e-6)
    assert set(net.state_dict()) == {
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }


FIGURES = {
    f"epic/overall_{task}_accuracy_at_{k}" for task in ("verb", "noun", "action") for k in (1, 5)
}


@pytest.mark.parametrize("reduce", ["max", "logsumexp"])
def test_the_figures_of_batches_are_the_official_ones_of_all_readable_samples(lab, reduce):
    pairs = read_pairs(f"{lab.results}/clean/pairs.tsv")
    scores = (3 * torch.randn(30, len(pairs), generator=torch.Generator().manual_seed(0))).softmax(
        1
    )
    # Train has not seen the pair of the last three.
    truth = [pairs[number % len(pairs)][:2] for number in range(27)] + [(90, 290)] * 3
    metric = EpicPairMetric(f"{lab.results}/clean/pairs.tsv", 97, 300, reduce)
    samples = [
        {"pred_score": score, "verb": verb, "noun": noun}
        for score, (verb, noun) in zip(scores, truth, strict=True)
    ]
    broken = {**samples[0], "verb": 1, "noun": 1, "broken": True}
    for batch in (samples[:7], [broken], [*samples[7:], broken]):
        metric.process(None, batch)
    # A sample keeps its float32 rows and a few bytes more, but not the batch whose views they are.
    sample_bytes = 4 * (97 + 300) + 1000
    assert len(pickle.dumps(metric.results)) < sample_bytes * len(metric.results)
    figures = metric.evaluate(32)
    verb, noun = fold_pairs(scores.log(), torch.tensor([p[:2] for p in pairs]), 97, 300, reduce)
    verbs, nouns = zip(*truth, strict=True)
    official = official_metrics(verb, noun, verbs, nouns, [""] * 30, [], [], [])
    # The loss is that of the samples whose pair train has.
    losses = [-float(scores[n, n % len(pairs)].log()) for n in range(27)]
    assert figures.pop("epic/loss") == pytest.approx(np.mean(losses), rel=1e-5)
    assert set(figures) == FIGURES and ACTION_TOP1 in figures
    assert figures == {f"epic/{key}": value for key, value in official.items() if "overall" in key}
    # The figures are neither those of no guess nor those of perfect guesses.
    assert 0 < figures[ACTION_TOP1] < 90
