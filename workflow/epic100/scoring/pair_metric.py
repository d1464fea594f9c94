"""The accuracies of a validation during training, computed by the same function as `evaluate`.

The class is registered as a metric of MMEngine, so that a recipe can name it.
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
# Each column of the table of epochs that a validation fills, with MMEngine's name of its figure.
FIGURES = {
    f"{task}_top{k}": f"{PREFIX}/overall_{task}_accuracy_at_{k}" for task in TASKS for k in (1, 5)
} | {VAL_LOSS: f"{PREFIX}/loss"}
ACTION_TOP1 = FIGURES["action_top1"]


@METRICS.register_module()
class EpicPairMetric(BaseMetric):
    """Top-1 and top-5 accuracy of verb, noun and action, in percent, and the loss.

    The loss is what the training minimises, without label smoothing: the sum of the heads'
    cross-entropies. It is the mean over the segments whose pair is in training.

    Args:
        pairs: Path of the pair table.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
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
        """Read the pair table, and compute the sizes of the heads."""
        super().__init__(**kwargs)
        self.pairs = torch.tensor([pair[:2] for pair in read_pairs(pairs)])
        self.row_of_pair = {
            (verb, noun): row for row, (verb, noun) in enumerate(self.pairs.tolist())
        }
        self.classes = (num_verbs, num_nouns)
        self.reduce = reduce
        self.sizes = output_sizes(heads, len(self.pairs), num_verbs, num_nouns)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add a result per sample: scores of verbs and nouns (1.6 kB), true classes, and loss."""
        # Another segment replaces one that does not decode, so its scores must not count.
        intact = [sample for sample in data_samples if not sample.get("broken")]
        if not intact:
            return
        scores = torch.stack([sample["pred_score"].float().cpu() for sample in intact])
        # The heads give probabilities here; a probability of 0 would have no finite log.
        scores = scores.clamp_min(torch.finfo(torch.float32).tiny).log()
        scores_of_head = split_outputs(scores, self.sizes)
        head_scores = {head: rows.log_softmax(dim=1) for head, rows in scores_of_head.items()}
        folded = (
            fold_pairs(scores_of_head["pair"], self.pairs, *self.classes, self.reduce)
            if "pair" in scores_of_head
            else (head_scores["verb"], head_scores["noun"])
        )
        pairs = [(int(sample["verb"]), int(sample["noun"])) for sample in intact]
        true_pairs = torch.tensor([self.row_of_pair.get(pair, -1) for pair in pairs])
        losses = losses_of_heads(head_scores, self.pairs, true_pairs).tolist()
        for verb, noun, pair, loss in zip(*folded, pairs, losses, strict=True):
            # Processes send each other their results. A view of the scores would be sent with those
            # of its whole batch, so each result has a copy.
            self.results.append((verb.clone(), noun.clone(), *pair, loss))

    def compute_metrics(self, results: list) -> dict[str, float | None]:
        """Compute the official overall figures over all samples, and the loss."""
        verb_scores, noun_scores, true_verbs, true_nouns, losses = zip(*results, strict=True)
        figures = official_metrics(
            torch.stack(verb_scores),
            torch.stack(noun_scores),
            true_verbs,
            true_nouns,
            participant_ids=[""] * len(true_verbs),
        )
        # The loss of a segment is NaN if its pair is not in training.
        known_losses = [loss for loss in losses if not math.isnan(loss)]
        loss = sum(known_losses) / len(known_losses) if known_losses else None
        return {name: figure for name, figure in figures.items() if name.startswith("overall_")} | {
            "loss": loss
        }
