"""Verb, noun and action accuracy of a validation, computed by the same function as `evaluate`.

The class is registered as MMEngine's metric, which a recipe names.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric

from epic100.model.model_file import output_sizes, split_outputs
from epic100.scoring.epoch_table import VAL_LOSS
from epic100.scoring.folding import fold_pairs
from epic100.scoring.metrics import TASKS, losses_of_heads, official_metrics
from epic100.segments.pairs import read_pairs

PREFIX = "epic"
# These columns of the table of epochs each get a figure of a validation.
FIGURES = {
    f"{task}_top{k}": f"{PREFIX}/overall_{task}_accuracy_at_{k}" for task in TASKS for k in (1, 5)
} | {VAL_LOSS: f"{PREFIX}/loss"}
ACTION_TOP1 = FIGURES["action_top1"]


@METRICS.register_module()
class EpicPairMetric(BaseMetric):
    """Top-1 and top-5 accuracy of verb, noun and action, in percent, and the loss.

    The loss is the mean, over segments with a pair of training, of the sum of the heads'
    cross-entropies: what the training minimises, without label smoothing.

    Args:
        pairs: Path of the pair table.
        num_verbs: Verb classes.
        num_nouns: Noun classes.
        reduce: How pair scores are folded (`scoring.folding.fold_pairs`).
        heads: Heads of the model; without a pair head, verb and noun scores are used as they are.
    """

    default_prefix = PREFIX

    def __init__(
        self,
        pairs: str,
        num_verbs: int = 97,
        num_nouns: int = 300,
        reduce: str = "max",
        heads: str = "pair",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pairs = torch.tensor([pair[:2] for pair in read_pairs(pairs)])
        self.places = {pair: number for number, pair in enumerate(map(tuple, self.pairs.tolist()))}
        self.classes = (num_verbs, num_nouns)
        self.reduce = reduce
        self.sizes = output_sizes(heads, len(self.pairs), num_verbs, num_nouns)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store each sample's scores over verbs and nouns (1.6 kB), their truth, and its loss."""
        # Another segment replaces one that does not decode, so its scores must not count.
        intact = [sample for sample in data_samples if not sample.get("broken")]
        if not intact:
            return
        scores = torch.stack([sample["pred_score"].float().cpu() for sample in intact])
        scores = scores.clamp_min(torch.finfo(torch.float32).tiny).log()
        parts = split_outputs(scores, self.sizes)
        head_scores = {head: rows.log_softmax(dim=1) for head, rows in parts.items()}
        if "pair" in parts:
            folded = fold_pairs(parts["pair"], self.pairs, *self.classes, self.reduce)
        else:
            folded = head_scores["verb"], head_scores["noun"]
        pairs = [(int(sample["verb"]), int(sample["noun"])) for sample in intact]
        numbers = torch.tensor([self.places.get(pair, -1) for pair in pairs])
        losses = losses_of_heads(head_scores, self.pairs, numbers).tolist()
        for verb, noun, pair, loss in zip(*folded, pairs, losses, strict=True):
            # A view would send its whole batch when ranks exchange results, so each is a copy.
            self.results.append((verb.clone(), noun.clone(), *pair, loss))

    def compute_metrics(self, results: list) -> dict[str, float | None]:
        """Compute the official overall figures over all samples, and the loss."""
        verb_scores, noun_scores, true_verbs, true_nouns, losses = zip(*results, strict=True)
        scores = torch.stack(verb_scores), torch.stack(noun_scores)
        figures = official_metrics(*scores, true_verbs, true_nouns, [""] * len(true_verbs))
        known_losses = [loss for loss in losses if not math.isnan(loss)]
        loss = sum(known_losses) / len(known_losses) if known_losses else None
        return {k: v for k, v in figures.items() if k.startswith("overall_")} | {"loss": loss}
