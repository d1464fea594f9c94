"""The accuracies of a validation during training, computed by the same function as `evaluate`.

The class is registered as a metric of MMEngine, so that a recipe can name it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric

from epic100.data.pairs import read_pairs
from epic100.model.model_file import output_sizes, split_outputs
from epic100.model.registered import LOSS_FIELD
from epic100.scoring.epoch_table import PREFIX
from epic100.scoring.folding import fold_pairs
from epic100.scoring.metrics import TASKS, group_accuracies, officially_correct


@METRICS.register_module()
class EpicPairMetric(BaseMetric):
    """Top-1 and top-5 accuracy of verb, noun and action, in percent, and the loss.

    The loss is what the training minimises, computed by the model's own head. It is the mean over
    the segments whose pair is in training, and so are the other values of the head's `loss`, e.g.
    for one more label. None if no segment has such a pair.

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
        self.classes = (num_verbs, num_nouns)
        self.reduce = reduce
        self.sizes = output_sizes(heads, len(self.pairs), num_verbs, num_nouns)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add a result per sample: scores of verbs and nouns (1.6 kB), true classes, and losses."""
        # Another segment replaces one that does not decode, so its scores must not count.
        intact = [sample for sample in data_samples if not sample.get("broken")]
        if not intact:
            return
        scores = torch.stack([sample["pred_score"].float().cpu() for sample in intact])
        # The heads give probabilities here; a probability of 0 would have no finite log.
        log_probs = scores.clamp_min(torch.finfo(torch.float32).tiny).log()
        heads = split_outputs(log_probs, self.sizes)
        if "pair" in heads:
            verbs, nouns = fold_pairs(heads["pair"], self.pairs, *self.classes, self.reduce)
        else:
            verbs, nouns = heads["verb"].log_softmax(dim=1), heads["noun"].log_softmax(dim=1)
        for verb, noun, sample in zip(verbs, nouns, intact, strict=True):
            # Processes send each other their results. A view of the scores would be sent with the
            # scores of its complete batch, so each result has a copy.
            classes = (int(sample["verb"]), int(sample["noun"]))
            self.results.append((verb.clone(), noun.clone(), *classes, sample.get(LOSS_FIELD)))

    def compute_metrics(self, results: list) -> dict[str, float | None]:
        """Compute the official overall metrics over all samples, and the loss.

        Args:
            results: What `process` has added, of all processes.
        """
        verbs, nouns, true_verbs, true_nouns, losses = zip(*results, strict=True)
        correct = officially_correct(torch.stack(verbs), torch.stack(nouns), true_verbs, true_nouns)
        every = np.ones(len(true_verbs), dtype=bool)
        overall = group_accuracies(correct, {"overall": dict.fromkeys(TASKS, every)})
        # The losses of a segment, by name. A segment whose pair is not in training has none.
        known_losses = [of_segment for of_segment in losses if of_segment]
        means: dict[str, float | None] = {"loss": None}
        if known_losses:
            for name in known_losses[0]:
                # The official accuracies replace the head's own, `top1_acc` and `top5_acc`.
                if not name.startswith("top"):
                    total = sum(of_segment[name] for of_segment in known_losses)
                    means[name] = total / len(known_losses)
        return means | overall
