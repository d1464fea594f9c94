"""The official figures, and those that the official tool does not print."""

import json
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.scoring.evaluation import diagnose
from epic100.scoring.metrics import official_hits, official_metrics
from support.official_case import OFFICIAL, TAIL_NOUNS, TAIL_VERBS, UNSEEN, official_case


@pytest.mark.parametrize("kind, names", [(np.asarray, np.asarray), (torch.from_numpy, list)])
def test_the_figures_are_those_of_the_official_evaluator(kind, names):
    *numbers, participants = official_case()
    case = *map(kind, numbers), names(participants)
    assert official_metrics(*case, TAIL_VERBS, TAIL_NOUNS, UNSEEN) == pytest.approx(
        OFFICIAL, abs=1e-9
    )


def slow_hits(verb, noun, verb_true, noun_true):
    """All products of the best 100 verbs and nouns of each segment, sorted in full."""
    best_verbs = np.argsort(verb)[:, ::-1][:, :100]
    best_nouns = np.argsort(noun)[:, ::-1][:, :100]
    top_verb = np.take_along_axis(verb, best_verbs, axis=1)
    top_noun = np.take_along_axis(noun, best_nouns, axis=1)
    p_verb, p_noun = np.exp(top_verb - top_verb.max()), np.exp(top_noun - top_noun.max())
    p_verb, p_noun = p_verb / p_verb.sum(), p_noun / p_noun.sum()
    hits = {f"{task}_at_{k}": [] for task in ("verb", "noun", "action") for k in (1, 5)}
    for i in range(len(verb)):
        products = np.outer(p_verb[i], p_noun[i]).ravel()
        kept = np.argsort(products)[::-1][:100]
        kept = kept[np.argsort(products[kept])[::-1]]
        actions = [
            (best_verbs[i][k // p_noun.shape[1]], best_nouns[i][k % p_noun.shape[1]]) for k in kept
        ]
        for k in (1, 5):
            hits[f"verb_at_{k}"].append(verb_true[i] in best_verbs[i][:k])
            hits[f"noun_at_{k}"].append(noun_true[i] in best_nouns[i][:k])
            hits[f"action_at_{k}"].append((verb_true[i], noun_true[i]) in actions[:k])
    return hits


def likely(rng, rows, num_verbs, num_nouns):
    true = rng.integers(0, num_verbs, rows), rng.integers(0, num_nouns, rows)
    scores = [rng.normal(size=(rows, size)) for size in (num_verbs, num_nouns)]
    for array, labels in zip(scores, true, strict=True):
        array[np.arange(rows), labels] += rng.normal(2, 1, rows)
    return *(array.astype(np.float32) for array in scores), *true


CHANGES = {
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


SMALL = [(1, 1), (1, 3), (2, 2), (3, 2), (5, 1), (2, 7), (6, 6), (120, 8)]


@pytest.mark.parametrize(
    "change, sizes",
    [
        *((change, (97, 300)) for change in CHANGES),
        *product(("as they are", "rounded to many ties", "all equal"), SMALL),
    ],
)
def test_every_segment_is_judged_as_by_sorting_all_products(change, sizes):
    *scores, verb_true, noun_true = likely(np.random.default_rng(5), 60, *sizes)
    case = *map(CHANGES[change], scores), verb_true, noun_true
    hits, expected = official_hits(*case), slow_hits(*case)
    assert {key: hit.tolist() for key, hit in hits.items()} == expected


CASE = ("verb", "noun", "verb_true", "noun_true", "participants")


def with_rows(scores, rows):
    scores = scores.copy()
    for row, value in rows.items():
        scores[row, 3] = value
    return scores


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: {name: part[:0] for name, part in c.items()}, "no segment"),
        (
            lambda c: {"noun_true": [0, 0, 300, *c["noun_true"][3:]]},
            "noun label 300 of row 2 is not one of the 300 classes",
        ),
        (lambda c: {"verb_true": np.full(400, -1)}, "verb label -1 of row 0 .*without labels"),
        (
            lambda c: {"verb": with_rows(c["verb"], {7: math.nan, 9: -math.inf})},
            r"2 of 400 rows of the verb scores .* first is row 7",
        ),
    ],
)
def test_input_that_cannot_be_judged_is_refused(change, words):
    case = dict(zip(CASE, official_case(), strict=True))
    with pytest.raises(EpicError, match=words):
        official_metrics(*(case | change(case)).values(), [], [], [])


def diagnosed(verb, verb_guess, noun=0, noun_guess=0, participant="P01", confidence=1.0, top=20):
    """The diagnostics of segments with these true and guessed classes."""
    given = {"verb": verb, "verb_guess": verb_guess, "noun": noun, "noun_guess": noun_guess}
    table = pd.DataFrame(given | {"participant": participant, "predicted": True})
    right = {task: table[task] == table[f"{task}_guess"] for task in ("verb", "noun")}
    for task, hit in (right | {"action": right["verb"] & right["noun"]}).items():
        table[f"{task}_at_1"] = table[f"{task}_at_5"] = hit
        table[f"{task}_confidence"] = confidence
    return diagnose(table, top)


def test_classes_count_alike_in_the_mean_class_accuracy():
    found = diagnosed([4, 4, 4, 4, 9, 9], [4, 4, 4, 9, 4, 4], noun=[0, 0, 0, 1, 1, 1])
    assert found["verb_mean_class_accuracy"] == pytest.approx((75 + 0) / 2)
    assert found["action_mean_class_accuracy"] == pytest.approx((100 + 0 + 0) / 3)


@pytest.mark.parametrize(
    "confidence, right, error",
    [
        # Three of four are right at a confidence of 0.9, and none of one at 0.6.
        ([0.9] * 4 + [0.6], [1, 1, 1, 0, 0], (4 * 15 + 1 * 60) / 5),
        ([1.0, 1.0], [1, 1], 0),
        ([0.75, 0.85, 0.95], [1, 0, 1], (25 + 85 + 5) / 3),
        # Both confidences are in one bin.
        ([0.95, 0.97], [1, 0], (95 + 97 - 100) / 2),
    ],
)
def test_calibration_error_is_the_mean_gap_weighted_by_segments(confidence, right, error):
    found = diagnosed([1] * len(right), right, confidence=confidence)
    assert found["verb_expected_calibration_error"] == pytest.approx(error)


def test_confusions_are_ordered_by_count_with_their_share_of_the_true_class():
    found = diagnosed([0, 0, 0, 0, 1, 1, 0], [1, 1, 0, 2, 2, 0, 0], top=2)
    assert found["verb_confusions"] == [
        {"true": 0, "predicted": 1, "count": 2, "share": 40},
        {"true": 0, "predicted": 2, "count": 1, "share": 20},
    ]
    assert found["noun_confusions"] == []


def test_actions_are_confused_as_pairs_and_all_of_it_can_be_written_as_json():
    found = diagnosed([0, 1, 1, 2], [0, 0, 1, 2], [4, 4, 4, 2], [4, 4, 2, 2])
    assert found["action_confusions"] == [
        {"true": [1, 4], "predicted": [0, 4], "count": 1, "share": 50},
        {"true": [1, 4], "predicted": [1, 2], "count": 1, "share": 50},
    ]
    assert json.loads(json.dumps(found)) == found
