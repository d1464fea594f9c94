"""Writes metrics.json: the official metrics on val, and diagnostics beyond them, in percent.

The diagnostics are calibration, confusions and participants.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from epic100.base.atomic import write_text
from epic100.scoring.metrics import TASKS, group_accuracies, official_hits, percent
from epic100.scoring.predictions import (
    Predictions,
    chosen_way,
    complete_scores,
    read_predictions,
    ways_of,
)
from epic100.scoring.truth import Truth, read_truth

log = logging.getLogger(__name__)


def evaluate(
    predictions_path: str | os.PathLike,
    segments_path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    lists: Mapping[str, str],
    reduce: str | None,
    clean: str | os.PathLike | None = None,
    model: str | os.PathLike | Sequence[str] | None = None,
) -> dict:
    """Write the official metrics of split val, in percent.

    The keys besides the official names are:

    - `readable_*`: the same over the segments with a prediction;
    - `segments`, `predicted`: numbers of segments, and of those with a prediction;
    - `by_reduce`: overall figures for each way to fold pairs;
    - `beyond_train`: number of segments with a pair that is not in training;
    - `action_head_accuracy_at_1`: top-1 of the pair head alone over the predicted segments, as
      LaViLa and AVION report it; null without a pair head. The leaderboard's figure,
      `overall_action_accuracy_at_1`, multiplies verb and noun scores;
    - `loss`: what training minimises, over the predicted segments with a pair of training: the sum
      of the cross-entropies of the heads, without label smoothing; null without such a segment;
    - `diagnostics`: the result of `diagnose`;
    - `trained_on`: as in the model.

    Args:
        predictions_path: Predictions of split val.
        segments_path: The segment list of split val, with labels.
        out: The JSON file to write.
        lists: Paths by the keys of `official_lists.LISTS`. Without its list, a figure is null.
        reduce: As for `predictions.chosen_way`.
        clean: The clean list that the predictions must be made from; None: not checked.
        model: The model or models that the predictions must be made with; None: not checked.

    Returns:
        The content of `out`.

    Raises:
        EpicError: An input is wrong, or the predictions are of other segments or another model.
    """
    predictions = read_predictions(predictions_path, "val", model=model, clean=clean)
    reduce = chosen_way(predictions, reduce)
    truth = read_truth(segments_path, lists)
    known = {tuple(pair[:2]) for pair in predictions.pairs}
    beyond = np.array([pair not in known for pair in truth.pairs()], dtype=bool)
    by_reduce: dict[str, dict] = {}
    figures: dict[str, Any] = {}
    for way in ways_of(predictions):
        verb, noun, predicted = complete_scores(predictions, truth.ids, way)
        hits = official_hits(verb, noun, truth.verb, truth.noun)
        found = group_accuracies(hits, truth.members) | _readable(hits, predicted.numpy(), beyond)
        shown = {k: v for k, v in found.items() if k.startswith(("overall", "readable", "beyond"))}
        by_reduce[way] = shown
        if way == reduce:
            figures = found | {"diagnostics": diagnose(hits, verb.numpy(), noun.numpy(), truth)}
    truths = dict(zip(truth.ids, truth.pairs(), strict=True))
    asked = [truths[name] for name in predictions.narration_ids]
    figures |= {
        "reduce": reduce,
        "segments": len(truth.ids),
        "predicted": int(predicted.sum()),
        "beyond_train": int(beyond.sum()),
        "by_reduce": by_reduce,
        "action_head_accuracy_at_1": _action_head(predictions, asked),
        "loss": _loss(predictions, asked),
        "trained_on": predictions.trained_on,
    }
    if predictions.trained_on.get("split") == "trainval":
        log.warning(
            "the model learned from val (`train: split: trainval`): these figures say how well it "
            "remembers, not how good it is"
        )
    write_text(out, json.dumps(figures, indent=2) + "\n")
    return figures


def diagnose(
    hits: Mapping[str, np.ndarray], verb: np.ndarray, noun: np.ndarray, truth: Truth, top: int = 20
) -> dict[str, Any]:
    """Compute the diagnostics.

    An action is [verb, noun]. Its confidence is the product of both, as in the official score.

    Args:
        hits: The result of `metrics.official_hits` for these scores.
        verb: Log-probabilities of the verbs [N, V].
        noun: Log-probabilities of the nouns [N, M].
        truth: The split.
        top: Number of confusions.

    Returns:
        A dict for JSON with the keys `{verb,noun,action}_mean_class_accuracy`,
        `{verb,noun,action}_expected_calibration_error`, `participants` and
        `{verb,noun,action}_confusions` (the `top` most frequent).
    """
    classes = {"verb": truth.verb, "noun": truth.noun}
    confidence, predicted = {}, {}
    for task, scores in (("verb", verb), ("noun", noun)):
        confidence[task] = np.exp(scores.max(axis=1).astype(np.float64))
        predicted[task] = scores.argmax(axis=1)
    nouns = noun.shape[1]
    confidence["action"] = confidence["verb"] * confidence["noun"]
    for both in (classes, predicted):
        both["action"] = both["verb"].astype(np.int64) * nouns + both["noun"]
    report: dict[str, Any] = {
        f"{task}_mean_class_accuracy": mean_class_accuracy(classes[task], hits[f"{task}_at_1"])
        for task in TASKS
    }
    for task in TASKS:
        true, said = classes[task], predicted[task]
        error = expected_calibration_error(confidence[task], said == true)
        report[f"{task}_expected_calibration_error"] = error
        report[f"{task}_confusions"] = confusions(true, said, top)
    for mistake in report["action_confusions"]:
        for key in ("true", "predicted"):
            mistake[key] = list(divmod(mistake[key], nouns))
    report["participants"] = participant_accuracies(hits, truth.participants)
    return report


def mean_class_accuracy(true: np.ndarray, hit: np.ndarray) -> float:
    """Average the accuracy over the classes that occur in `true`.

    Args:
        true: Class ids [N].
        hit: Whether each segment is right, bool [N].

    Returns:
        The mean in percent.
    """
    _, index, count = np.unique(true, return_inverse=True, return_counts=True)
    return float((np.bincount(index, weights=hit) / count).mean() * 100)


def participant_accuracies(
    hits: Mapping[str, np.ndarray], participants: Sequence[str]
) -> dict[Any, dict[Any, float | int]]:
    """Compute each participant's accuracies in percent.

    Args:
        hits: The result of `metrics.official_hits`.
        participants: Participants [N].

    Returns:
        `segments` and `{verb,noun,action}_accuracy_at_{1,5}` by participant id.
    """
    names = {name.replace("_at_", "_accuracy_at_"): hit for name, hit in hits.items()}
    groups = pd.DataFrame(names).groupby(np.asarray(participants, dtype=str))
    figures = groups.mean() * 100
    figures.insert(0, "segments", groups.size())
    return figures.to_dict("index")


def expected_calibration_error(confidence: np.ndarray, hit: np.ndarray, bins: int = 15) -> float:
    """Average the gap between confidence and accuracy over bins, weighted by segments.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3. Here in percent.

    Args:
        confidence: The highest probability of each segment [N].
        hit: Whether each segment is right, bool [N].
        bins: Number of bins of equal width over (0, 1].
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=confidence - hit)  # mean gap of a bin, times its segments
    return float(np.abs(gaps).sum() / len(hit) * 100)


def confusions(true: np.ndarray, predicted: np.ndarray, top: int) -> list[dict[str, Any]]:
    """Find the most frequent mistakes.

    Args:
        true: Class ids [N].
        predicted: Class ids [N].
        top: Number of mistakes.

    Returns:
        `true` class, `predicted` class, `count`, and `share` in percent of the true class's
        segments. Equal counts are sorted by class id.
    """
    wrong = predicted != true
    pairs, count = np.unique(
        np.stack([true[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-count, kind="stable")[:top]
    return [
        {
            "true": int(pairs[i, 0]),
            "predicted": int(pairs[i, 1]),
            "count": int(count[i]),
            "share": float(count[i] / (true == pairs[i, 0]).sum() * 100),
        }
        for i in order
    ]


def _loss(predictions: Predictions, pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return the mean loss over the predicted segments, whose true pairs are given."""
    column = {tuple(pair[:2]): place for place, pair in enumerate(predictions.pairs)}
    rows = [row for row, pair in enumerate(pairs) if pair in column]
    if not rows:
        return None
    verb, noun = zip(*(pairs[row] for row in rows), strict=True)
    heads = [(predictions.verb_log_probs, verb), (predictions.noun_log_probs, noun)]
    if predictions.pair_head:
        heads.append((predictions.log_probs, tuple(column[pairs[row]] for row in rows)))
    sums = [scores[rows, true].double().mean() for scores, true in heads if scores is not None]
    return -float(torch.stack(sums).sum())


def _action_head(predictions: Predictions, pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return the pair head's top-1 over the predicted segments, in percent."""
    if not predictions.pair_head:
        return None
    best = predictions.log_probs.argmax(dim=1).tolist()
    said = [tuple(predictions.pairs[place][:2]) for place in best]
    return percent(np.array([guess == pair for guess, pair in zip(said, pairs, strict=True)]))


def _readable(
    hits: dict[str, np.ndarray], predicted: np.ndarray, beyond: np.ndarray
) -> dict[str, float | None]:
    """Return accuracies over predicted segments, and top-1 of those with a pair not in training."""
    figures: dict[str, float | None] = {}
    for name, right in hits.items():
        accuracy = name.replace("_at_", "_accuracy_at_")
        figures[f"readable_{accuracy}"] = percent(right[predicted])
        if name.endswith("_1"):
            figures[f"beyond_train_{accuracy}"] = percent(right[beyond])
    return figures
