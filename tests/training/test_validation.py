import pickle

import pytest
import torch

from epic100.scoring.folding import fold_pairs
from epic100.scoring.metrics import official_metrics
from epic100.segments.pairs import read_pairs
from epic100.training.validation import ACTION_TOP1, EpicPairMetric

FIGURES = {f"epic/overall_{task}_accuracy_at_{k}" for task in ("verb", "noun", "action")
           for k in (1, 5)}  # fmt: skip


@pytest.mark.parametrize("reduce", ["max", "logsumexp"])
def test_the_figures_of_batches_are_the_official_ones_of_all_readable_samples(lab, reduce):
    pairs = read_pairs(f"{lab.results}/clean/pairs.tsv")
    scores = (3 * torch.randn(30, len(pairs), generator=torch.Generator().manual_seed(0))).softmax(
        1
    )
    truth = [pairs[number % len(pairs)][:2] for number in range(27)] + [(90, 290)] * 3  # unseen
    metric = EpicPairMetric(f"{lab.results}/clean/pairs.tsv", 97, 300, reduce)
    samples = [{"pred_score": score, "verb": verb, "noun": noun}
               for score, (verb, noun) in zip(scores, truth, strict=True)]  # fmt: skip
    broken = {**samples[0], "verb": 1, "noun": 1, "broken": True}
    for batch in (samples[:7], [broken], [*samples[7:], broken]):
        metric.process(None, batch)
    found = metric.evaluate(32)
    verb, noun = fold_pairs(scores.log(), torch.tensor([p[:2] for p in pairs]), 97, 300, reduce)
    verbs, nouns = zip(*truth, strict=True)
    official = official_metrics(verb, noun, verbs, nouns, [""] * 30, [], [], [])
    assert set(found) == FIGURES and ACTION_TOP1 in found
    assert found == {f"epic/{key}": value for key, value in official.items() if "overall" in key}
    assert 0 < found[ACTION_TOP1] < 90


def test_a_result_does_not_take_its_whole_batch_along_to_other_ranks(lab):
    pairs = read_pairs(f"{lab.results}/clean/pairs.tsv")
    metric = EpicPairMetric(f"{lab.results}/clean/pairs.tsv")
    scores = torch.rand(32, len(pairs)).softmax(1)
    metric.process(None, [{"pred_score": score, "verb": 0, "noun": 0} for score in scores])
    one = 4 * (97 + 300)  # float32 verb and noun scores
    assert len(pickle.dumps(metric.results)) < 32 * (one + 1000)  # 32 times as much
