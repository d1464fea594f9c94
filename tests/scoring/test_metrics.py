"""Hits as the official evaluator counts them, and diagnostics that it does not print.

tests/scoring/test_val_scores.py compares complete files of scores with metrics that it printed.
"""

import json
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.scoring.evaluation import diagnose
from epic100.scoring.metrics import officially_correct
from support.made_up import official_case


def correct_by_full_sort(verb, noun, verb_true, noun_true):
    """Count correct by sorting all products of a segment's best 100 verbs and best 100 nouns."""
    best_verbs = np.argsort(verb)[:, ::-1][:, :100]
    best_nouns = np.argsort(noun)[:, ::-1][:, :100]
    top_verb = np.take_along_axis(verb, best_verbs, axis=1)
    top_noun = np.take_along_axis(noun, best_nouns, axis=1)
    p_verb, p_noun = np.exp(top_verb - top_verb.max()), np.exp(top_noun - top_noun.max())
    p_verb, p_noun = p_verb / p_verb.sum(), p_noun / p_noun.sum()
    correct = {f"{task}_at_{k}": [] for task in ("verb", "noun", "action") for k in (1, 5)}
    for i in range(len(verb)):
        products = np.outer(p_verb[i], p_noun[i]).ravel()
        # The official evaluator sorts the best 100 once more, which can reorder ties.
        best = np.argsort(products)[::-1][:100]
        best = best[np.argsort(products[best])[::-1]]
        verb_ranks, noun_ranks = np.divmod(best, p_noun.shape[1])
        actions = list(zip(best_verbs[i][verb_ranks], best_nouns[i][noun_ranks], strict=True))
        for k in (1, 5):
            correct[f"verb_at_{k}"].append(verb_true[i] in best_verbs[i][:k])
            correct[f"noun_at_{k}"].append(noun_true[i] in best_nouns[i][:k])
            correct[f"action_at_{k}"].append((verb_true[i], noun_true[i]) in actions[:k])
    return correct


def draw_scores(rng, rows, size):
    """Draw labels [rows] and scores [rows, size] in which the label is often among the best."""
    labels = rng.integers(0, size, rows)
    scores = rng.normal(size=(rows, size))
    scores[np.arange(rows), labels] += rng.normal(2, 1, rows)
    return labels, scores.astype(np.float32)


# each type of scores is made from random ones by its function.
TYPES_OF_SCORES = {
    "as they are": lambda x: x,
    "sharp": lambda x: x * 12,
    "so sharp that products underflow": lambda x: x * 80,
    "rounded to many ties": lambda x: x.round(),
    "rounded to some ties": lambda x: (x * 4).round() / 4,
    "one-hot": lambda x: (x == x.max(axis=1, keepdims=True)).astype(np.float32),
    "all equal": np.zeros_like,
    "float16": lambda x: (x * 3).astype(np.float16),
    "float64": lambda x: x.astype(np.float64),
    "rows on other scales": lambda x: x + np.linspace(-70, 70, len(x), dtype=x.dtype)[:, None],
    "one row for many segments": lambda x: np.where(np.arange(len(x))[:, None] % 3 == 0, x[:1], x),
    "most classes at the floor": lambda x: np.where(np.arange(x.shape[1]) < 4, x, np.float32(-30)),
}


@pytest.mark.parametrize(
    "scores_type, sizes",
    [
        *((scores_type, (97, 300)) for scores_type in TYPES_OF_SCORES),
        # Few verbs and nouns; 120 are more than the best 100 that count.
        *product(
            ("as they are", "rounded to many ties", "all equal"),
            [(1, 1), (1, 3), (2, 2), (3, 2), (5, 1), (2, 7), (6, 6), (120, 8)],
        ),
    ],
)
def test_correct_guesses_are_those_of_sorted_products(scores_type, sizes):
    rng = np.random.default_rng(5)
    verb_true, verb = draw_scores(rng, 60, sizes[0])
    noun_true, noun = draw_scores(rng, 60, sizes[1])
    make = TYPES_OF_SCORES[scores_type]
    arguments = (make(verb), make(noun), verb_true, noun_true)
    correct = {
        key: is_correct.tolist() for key, is_correct in officially_correct(*arguments).items()
    }
    assert correct == correct_by_full_sort(*arguments)


VERB, NOUN, VERB_TRUE, NOUN_TRUE, _ = official_case()
NOT_FINITE = VERB.copy()
NOT_FINITE[[7, 9], 3] = math.nan, -math.inf


@pytest.mark.parametrize(
    "arguments, words",
    [
        pytest.param(
            (VERB, NOUN, VERB_TRUE, np.full(400, 300)),
            "noun label 300 of row 0 is not one of the 300 classes",
            id="no such noun",
        ),
        pytest.param(
            (VERB, NOUN, np.full(400, -1), NOUN_TRUE),
            "verb label -1 of row 0 .*without labels",
            id="no labels",
        ),
        pytest.param(
            (NOT_FINITE, NOUN, VERB_TRUE, NOUN_TRUE),
            "2 of 400 rows of the verb scores .* first is row 7",
            id="NaN and infinity",
        ),
        pytest.param(
            (VERB[:0], NOUN[:0], VERB_TRUE[:0], NOUN_TRUE[:0]), "no segment", id="no segment"
        ),
    ],
)
def test_scores_and_labels_without_an_accuracy_are_rejected(arguments, words):
    with pytest.raises(EpicError, match=words):
        officially_correct(*arguments)


def diagnosed(verb, verb_guess, noun=0, noun_guess=0, participant="P01", confidence=1.0, top=20):
    """Diagnose segments with these true and guessed classes."""
    given = {"verb": verb, "verb_guess": verb_guess, "noun": noun, "noun_guess": noun_guess}
    table = pd.DataFrame(given | {"participant": participant, "predicted": True})
    right = {task: table[task] == table[f"{task}_guess"] for task in ("verb", "noun")}
    for task, is_correct in (right | {"action": right["verb"] & right["noun"]}).items():
        table[f"{task}_at_1"] = table[f"{task}_at_5"] = is_correct
        table[f"{task}_confidence"] = confidence
    return diagnose(table, top)


def test_mean_class_accuracy_weighs_classes_equally():
    found = diagnosed([4, 4, 4, 4, 9, 9], [4, 4, 4, 9, 4, 4], noun=[0, 0, 0, 1, 1, 1])
    # 3 of 4 segments of verb 4 are right, and none of verb 9.
    assert found["verb_mean_class_accuracy"] == pytest.approx((75 + 0) / 2)
    # The nouns are guessed as 0. So 3 of 3 segments of action (4, 0) are right, and no other.
    assert found["action_mean_class_accuracy"] == pytest.approx((100 + 0 + 0) / 3)


@pytest.mark.parametrize(
    "confidence, right, error",
    [
        # At a confidence of 90 %, 75 % are right: a gap of 15. At 60 %, none is right.
        pytest.param([0.9] * 4 + [0.6], [1, 1, 1, 0, 0], (4 * 15 + 1 * 60) / 5, id="two bins"),
        pytest.param([1.0, 1.0], [1, 1], 0, id="no gap"),
        # The bin has a mean confidence of 96 %, and 50 % are right.
        pytest.param([0.95, 0.97], [1, 0], 96 - 50, id="one bin"),
        # The first bin ends at 1/15.
        pytest.param([0.05, 0.1], [1, 0], (95 + 10) / 2, id="first two bins"),
    ],
)
def test_calibration_error_is_the_weighted_mean_gap(confidence, right, error):
    found = diagnosed([1] * len(right), right, confidence=confidence)
    assert found["verb_expected_calibration_error"] == pytest.approx(error)


def test_the_most_frequent_confusions_come_first():
    found = diagnosed([0, 0, 0, 0, 1, 1, 0], [1, 1, 0, 2, 2, 0, 0], top=2)
    # 2 of the 5 segments of class 0 are taken for 1, and 1 of them for 2.
    assert found["verb_confusions"] == [
        {"true": 0, "predicted": 1, "count": 2, "share": 40},
        {"true": 0, "predicted": 2, "count": 1, "share": 20},
    ]
    assert found["noun_confusions"] == []


def test_a_confused_action_is_a_pair_in_json():
    found = diagnosed([0, 1, 1, 2], [0, 0, 1, 2], [4, 4, 4, 2], [4, 4, 2, 2])
    assert found["action_confusions"] == [
        {"true": [1, 4], "predicted": [0, 4], "count": 1, "share": 50},
        {"true": [1, 4], "predicted": [1, 2], "count": 1, "share": 50},
    ]
    assert json.loads(json.dumps(found)) == found
