"""Metrics beyond the official ones: calibration, confusions, participants. Rates in percent."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from epic100.base.errors import EpicError
from epic100.scoring.metrics import TASKS, Labels, Scores, official_hits


def diagnose(
    verb_scores: Scores,
    noun_scores: Scores,
    verb_true: Labels,
    noun_true: Labels,
    participant_ids: Sequence[str],
    top: int = 20,
) -> dict[str, Any]:
    """Compute all diagnostics of this module.

    An action is [verb, noun]. Its confidence is the product of both, as in the official score.

    Args:
        verb_scores: [N, V], as for `metrics.official_metrics`.
        noun_scores: [N, M].
        verb_true: Verb classes [N].
        noun_true: Noun classes [N].
        participant_ids: Participants [N].
        top: Number of confusions.

    Returns:
        A dict for JSON with the keys `{verb,noun,action}_mean_class_accuracy`,
        `{verb,noun,action}_expected_calibration_error`, `participants` and
        `{verb,noun,action}_confusions` (the `top` most frequent).

    Raises:
        EpicError: As `metrics.official_metrics`.
    """
    hits = official_hits(verb_scores, noun_scores, verb_true, noun_true)
    verb_true, noun_true = np.asarray(verb_true), np.asarray(noun_true)
    classes = {"verb": verb_true, "noun": noun_true}
    classes["action"] = verb_true.astype(np.int64) * np.shape(noun_scores)[1] + noun_true
    report: dict[str, Any] = {
        f"{task}_mean_class_accuracy": mean_class_accuracy(classes[task], hits[f"{task}_at_1"])
        for task in TASKS
    }
    confidence, predicted = {}, {}
    for task, scores in (("verb", verb_scores), ("noun", noun_scores)):
        probabilities = _probabilities(scores)
        confidence[task] = probabilities.max(axis=1)
        predicted[task] = probabilities.argmax(axis=1)
    nouns = np.shape(noun_scores)[1]
    confidence["action"] = confidence["verb"] * confidence["noun"]
    predicted["action"] = predicted["verb"] * nouns + predicted["noun"]
    for task in TASKS:
        bins = reliability(confidence[task], predicted[task] == classes[task])
        report[f"{task}_expected_calibration_error"] = expected_calibration_error(bins)
        report[f"{task}_confusions"] = confusions(classes[task], predicted[task], top)
    for mistake in report["action_confusions"]:
        for key in ("true", "predicted"):
            mistake[key] = list(divmod(mistake[key], nouns))
    report["participants"] = participant_accuracies(hits, participant_ids)
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
    hits: dict[str, np.ndarray], participant_ids: Sequence[str]
) -> dict[str, dict[str, float | int]]:
    """Compute each participant's accuracies in percent.

    Args:
        hits: The result of `metrics.official_hits`.
        participant_ids: Participants [N].

    Returns:
        `segments` and `{verb,noun,action}_accuracy_at_{1,5}` by participant id.

    Raises:
        EpicError: The lengths differ.
    """
    participants = np.asarray(participant_ids, dtype=str)
    if any(len(hit) != len(participants) for hit in hits.values()):
        raise EpicError(f"{len(participants)} participants for {len(hits['verb_at_1'])} segments")
    accuracies: dict[str, dict[str, float | int]] = {}
    for participant in np.unique(participants).tolist():
        members = participants == participant
        figures: dict[str, float | int] = {"segments": int(members.sum())}
        for name, hit in hits.items():
            task, k = name.split("_at_")
            figures[f"{task}_accuracy_at_{k}"] = float(hit[members].mean() * 100)
        accuracies[participant] = figures
    return accuracies


def reliability(
    confidence: np.ndarray, hit: np.ndarray, bins: int = 15
) -> list[dict[str, float | int]]:
    """Compute the data of a reliability diagram: confidence and accuracy by bin.

    Args:
        confidence: The highest probability of each segment [N].
        hit: Whether each segment is right, bool [N].
        bins: Number of bins of equal width over (0, 1].

    Returns:
        For each bin that is not empty: `segments`, and mean `confidence` and `accuracy` in percent.
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "segments": int((index == b).sum()),
            "confidence": float(confidence[index == b].mean() * 100),
            "accuracy": float(hit[index == b].mean() * 100),
        }
        for b in np.unique(index)
    ]


def expected_calibration_error(bins: Sequence[dict[str, float | int]]) -> float:
    """Average the gap between confidence and accuracy over bins, weighted by segments.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3. Here in percent.

    Args:
        bins: The result of `reliability`.
    """
    gaps = [b["segments"] * abs(b["confidence"] - b["accuracy"]) for b in bins]
    return float(sum(gaps) / sum(b["segments"] for b in bins))


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


def _probabilities(scores: Scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)
