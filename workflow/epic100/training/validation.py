"""Verb, noun and action accuracy during training, by the same figures as `evaluate`."""

from collections.abc import Sequence

import torch
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric

from epic100.metrics import official_metrics
from epic100.pairs import read_pairs
from epic100.scores import fold_pairs


@METRICS.register_module()
class EpicPairMetric(BaseMetric):
    """Top-1 and top-5 of verb, noun and action, in percent, from scores over pairs.

    Args:
        pairs: the pair table. reduce: how pair scores are folded (`scores.fold_pairs`).
    """

    default_prefix = "epic"

    def __init__(self, pairs: str, reduce: str = "max", **kwargs):
        super().__init__(**kwargs)
        self.pairs = torch.tensor([pair[:2] for pair in read_pairs(pairs)])
        self.reduce = reduce

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep each sample's probabilities over pairs and its true verb and noun."""
        for sample in data_samples:
            if sample.get("broken"):
                continue  # another segment stands in for one that does not decode
            score = sample["pred_score"].float().cpu()
            self.results.append((score, int(sample["verb"]), int(sample["noun"])))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The official overall figures over all samples."""
        scores, verbs, nouns = zip(*results, strict=True)
        verbs, nouns = torch.tensor(verbs), torch.tensor(nouns)
        num_verbs = int(max(self.pairs[:, 0].max(), verbs.max())) + 1
        num_nouns = int(max(self.pairs[:, 1].max(), nouns.max())) + 1
        probabilities = torch.stack(scores).clamp_min(torch.finfo(torch.float32).tiny)
        verb, noun = fold_pairs(probabilities.log(), self.pairs, num_verbs, num_nouns, self.reduce)
        figures = official_metrics(verb, noun, verbs, nouns, [""] * len(verbs), [], [], [])
        return {key: value for key, value in figures.items() if key.startswith("overall_")}
