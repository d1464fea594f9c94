"""The official metrics of the EPIC-KITCHENS-100 action recognition challenge, in percent.

The results equal those of epic-kitchens/C1-Action-Recognition (evaluate.py, utils/metrics.py,
utils/scoring.py at c90b6f9), including ties: it ranks by `argsort(...)[::-1]` with NumPy's default
sort, and so does this module. Its prefix `all` is `overall` here; `unseen` and `tail` are the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from epic100.base.errors import EpicError

TASKS = ("verb", "noun", "action")
# The columns of class ids of each task. An action is a verb with a noun, so it has two.
CLASSES = {"verb": ["verb"], "noun": ["noun"], "action": ["verb", "noun"]}
# Only these groups of segments have top-5 metrics: the official evaluator has none for its others.
GROUPS_WITH_TOP_5 = ("overall", "readable")

# 95 % of the standard normal distribution is within this number of deviations of its mean.
Z_95 = 1.959964

# The official action score uses only the best 100 verbs and the best 100 nouns of a segment.
_TOP_CLASSES = 100
# Segments with ties that are ranked at a time. Each has 97 x 100 products and their ranks, so all
# of them take about 30 MB.
_CHUNK = 256

# A segment's six highest products of a verb and a noun can only have these ranks (verb, noun). With
# the ranks i and j, from 0 on, (i + 1) * (j + 1) products are at least as high, itself included.
_CANDIDATES = np.array([(i, j) for i in range(6) for j in range(6) if (i + 1) * (j + 1) <= 6])

Scores = torch.Tensor | np.ndarray
Labels = torch.Tensor | np.ndarray | Sequence[int]


def group_accuracies(
    correct: Mapping[str, np.ndarray] | pd.DataFrame,
    members: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float | None]:
    """Compute the accuracies of groups of segments, in percent.

    Args:
        correct: The result of `officially_correct`, or a table with its columns.
        members: bool [N] by group, then by task, such as the result of `group_members`.

    Returns:
        Metrics by `{group}_{task}_accuracy_at_{1,5}`; top-5 only for the groups in
        `GROUPS_WITH_TOP_5`. None for a group without segments. (The official evaluator omits such
        unseen metrics, and fails for tail ones.)
    """
    return {
        f"{group}_{task}_accuracy_at_{k}": percent(correct[f"{task}_at_{k}"][mask])
        for group, masks in members.items()
        for task, mask in masks.items()
        for k in ((1, 5) if group in GROUPS_WITH_TOP_5 else (1,))
    }


def group_members(
    verb_true: Labels,
    noun_true: Labels,
    participant_ids: Sequence[str] | np.ndarray,
    tail_verbs: Iterable[int],
    tail_nouns: Iterable[int],
    unseen_participants: Iterable[str],
) -> dict[str, dict[str, np.ndarray]]:
    """Choose the segments that each official metric is computed over.

    A tail action has a tail verb or a tail noun.

    Args:
        verb_true: Verb classes [N].
        noun_true: Noun classes [N].
        participant_ids: Participants [N].
        tail_verbs: Tail verb classes.
        tail_nouns: Tail noun classes.
        unseen_participants: Participants without training videos.

    Returns:
        bool [N] by group (`overall`, `unseen`, `tail`), then by task; True for the segments of the
        group.
    """
    tail_verb = np.isin(verb_true, list(tail_verbs))
    tail_noun = np.isin(noun_true, list(tail_nouns))
    participants = np.asarray(participant_ids, dtype=str)
    unseen = np.isin(participants, np.array(list(unseen_participants), dtype=str))
    return {
        "overall": dict.fromkeys(TASKS, np.ones(len(participants), dtype=bool)),
        "unseen": dict.fromkeys(TASKS, unseen),
        "tail": {"verb": tail_verb, "noun": tail_noun, "action": tail_verb | tail_noun},
    }


def officially_correct(
    verb_scores: Scores, noun_scores: Scores, verb_true: Labels, noun_true: Labels
) -> dict[str, np.ndarray]:
    """Decide for each segment whether its true class is the best guess, or one of the five best.

    Args:
        verb_scores: [N, V], log-probabilities or logits, on the same scale for all rows.
        noun_scores: [N, M], in the same form.
        verb_true: Verb classes [N].
        noun_true: Noun classes [N].

    Returns:
        bool [N] by `{verb,noun,action}_at_{1,5}`.

    Raises:
        EpicError: No segments, NaN or infinite scores, labels out of range.
    """
    verbs, nouns = _checked_scores(verb_scores, "verb"), _checked_scores(noun_scores, "noun")
    verb_true = _checked_labels(verb_true, "verb", verbs.shape[1])
    noun_true = _checked_labels(noun_true, "noun", nouns.shape[1])
    if not len(verbs):
        raise EpicError("no segment to evaluate; expected one or more")
    verb_order, noun_order = _descending(verbs), _descending(nouns)
    verb_correct = verb_order[:, :5] == verb_true[:, None]
    noun_correct = noun_order[:, :5] == noun_true[:, None]
    # Actions are ranked by the product of the probabilities of their verb and their noun. The
    # official score uses only the best 100 verbs and nouns of each segment.
    action_is_best, action_in_five = _action_correct(
        _ranked(verbs, verb_order, verb_true), _ranked(nouns, noun_order, noun_true)
    )
    return {
        "verb_at_1": verb_correct[:, 0],
        "verb_at_5": verb_correct.any(axis=1),
        "noun_at_1": noun_correct[:, 0],
        "noun_at_5": noun_correct.any(axis=1),
        "action_at_1": action_is_best,
        "action_at_5": action_in_five,
    }


def percent(right: np.ndarray | pd.Series) -> float | None:
    """Compute the percentage of segments that are right, from bool [N]; None without segments."""
    return float(right.mean() * 100) if len(right) else None


def wilson(percent: float, count: int) -> tuple[float, float]:
    """Compute the 95 % confidence interval of an accuracy (Wilson 1927).

    Args:
        percent: The accuracy, 0 to 100.
        count: Number of segments, 1 or more.

    Returns:
        Lower and upper bound in percent.
    """
    p, z2 = percent / 100, Z_95**2  # The letters of the formula.
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 * math.sqrt(p * (1 - p) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


class _Ranked(NamedTuple):
    """The best classes of N segments, verbs or nouns.

    Attributes:
        probs: Probabilities by falling score, [N, up to 100].
        true_rank: The place of the true class among them, [N], from 0 on; -1: it is not there.
    """

    probs: np.ndarray
    true_rank: np.ndarray


def _ranked(scores: np.ndarray, order: np.ndarray, true: np.ndarray) -> _Ranked:
    """Find the best classes of each segment.

    Args:
        scores: [N, classes].
        order: The class ids of each segment by falling score, [N, classes].
        true: True classes [N].

    Returns:
        The `_TOP_CLASSES` best classes' probabilities, and the place of the true class among them.
    """
    order = order[:, :_TOP_CLASSES]
    is_true = order == true[:, None]
    true_rank = np.where(is_true.any(axis=1), is_true.argmax(axis=1), -1)
    # The official softmax divides by the sum over all segments together. It has the dtype of the
    # scores, so float16 underflows as in the official evaluator.
    best = np.take_along_axis(scores, order, axis=1)
    exp = np.exp(best - best.max())
    return _Ranked(exp / exp.sum(), true_rank)


def _action_correct(verb: _Ranked, noun: _Ranked) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the true action is the best, and whether it is one of the five best, bool [N].

    An action's score is the product of the probabilities of its verb and its noun. The fast path
    compares the true action's product with the six highest of the segment. A product grows with
    both factors, even after rounding, so the six highest are among `_CANDIDATES`.

    The slow path is for ties only. If the true product equals the first and the second product, or
    the fifth and the sixth, the order of ties decides. Then all products of the segment are ranked
    as the official evaluator does.
    """
    rows = np.arange(len(verb.probs))
    true_product = verb.probs[rows, verb.true_rank] * noun.probs[rows, noun.true_rank]
    # An action outside the best 100 verbs and nouns never counts; no real product is below 0.
    true_product[(verb.true_rank < 0) | (noun.true_rank < 0)] = -1
    verb_rank, noun_rank = _CANDIDATES.T
    in_range = (verb_rank < verb.probs.shape[1]) & (noun_rank < noun.probs.shape[1])
    products = verb.probs[:, verb_rank[in_range]] * noun.probs[:, noun_rank[in_range]]
    # If there are few classes, a segment may have fewer than six products.
    products = np.pad(products, ((0, 0), (0, 6)), constant_values=-1)
    highest = np.sort(products, axis=1)[:, ::-1]
    first, second, _, _, fifth, sixth = highest[:, :6].T
    best, in_five = true_product >= first, true_product >= fifth
    tied = np.flatnonzero((best & (true_product == second)) | (in_five & (true_product == sixth)))
    for start in range(0, len(tied), _CHUNK):
        rows = tied[start : start + _CHUNK]
        true_position = verb.true_rank[rows] * noun.probs.shape[1] + noun.true_rank[rows]
        is_true = _five_best_products(verb.probs[rows], noun.probs[rows]) == true_position[:, None]
        best[rows], in_five[rows] = is_true[:, 0], is_true.any(axis=1)
    return best, in_five


def _five_best_products(verb_probs: np.ndarray, noun_probs: np.ndarray) -> np.ndarray:
    """Rank all products of N segments as the official evaluator does.

    Returns:
        The positions of the five best products, int [N, 5]. The product of the verb with rank i and
        the noun with rank j has the position `i * number of nouns + j`.
    """
    products = (verb_probs[:, :, None] * noun_probs[:, None, :]).reshape(len(verb_probs), -1)
    # The official evaluator keeps the best 100 and ranks them again, which can reverse the order of
    # ties. So they are ranked twice here, too.
    order = _descending(products)[:, :_TOP_CLASSES]
    second_order = _descending(np.take_along_axis(products, order, axis=1))[:, :5]
    return np.take_along_axis(order, second_order, axis=1)


def _descending(scores: np.ndarray) -> np.ndarray:
    """Return the positions along the last axis by falling score."""
    # Ties must be as in the official evaluator: argsort(-scores) or a stable sort changes them.
    return np.argsort(scores, axis=-1)[:, ::-1]


def _checked_scores(scores: Scores, task: str) -> np.ndarray:
    """Convert scores to an array; raise EpicError for NaN or infinity."""
    if isinstance(scores, torch.Tensor):
        scores = scores.detach().cpu().numpy()
    bad = np.asarray(~np.isfinite(scores).all(axis=1))
    if bad.any():
        raise EpicError(
            f"{bad.sum()} of {len(bad)} rows of the {task} scores hold NaN or infinity, the first"
            f" is row {bad.argmax()}; predict again, with another model if its training went wrong"
        )
    return scores


def _checked_labels(labels: Labels, task: str, size: int) -> np.ndarray:
    """Convert labels to an array; raise EpicError for one that is no class of the scores."""
    labels = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    outside = (labels < 0) | (labels >= size)
    if outside.any():
        row = int(outside.argmax())
        raise EpicError(
            f"{task} label {labels[row]} of row {row} is not one of the {size} classes of the"
            f" scores ({outside.sum()} such rows); a split without labels cannot be evaluated"
        )
    return labels
