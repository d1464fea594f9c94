import json

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.scoring.diagnostics import (
    confusions,
    diagnose,
    expected_calibration_error,
    mean_class_accuracy,
    participant_accuracies,
    reliability,
)


def test_classes_count_alike_in_the_mean_class_accuracy():
    true = np.array([4, 4, 4, 4, 9, 9])
    hit = np.array([True, True, True, False, False, False])
    assert mean_class_accuracy(true, hit) == pytest.approx((75 + 0) / 2)


@pytest.mark.parametrize("confidence, right, bins, error", [
    # Confidence 0.9 with three of four right, confidence 0.6 with none of one.
    ([0.9] * 4 + [0.6], [1, 1, 1, 0, 0], [(1, 60, 0), (4, 90, 75)], (4 * 15 + 1 * 60) / 5),
    ([1.0, 1.0], [1, 1], [(2, 100, 100)], 0),
])  # fmt: skip
def test_calibration_error_is_the_mean_gap_weighted_by_segments(confidence, right, bins, error):
    found = reliability(np.array(confidence), np.array(right), bins=10)
    assert [(b["segments"], b["confidence"], b["accuracy"]) for b in found] == [
        (segments, pytest.approx(said), pytest.approx(true)) for segments, said, true in bins
    ]
    assert expected_calibration_error(found) == pytest.approx(error)


def test_confusions_are_ordered_by_count_with_their_share_of_the_true_class():
    predicted = np.array([1, 1, 0, 2, 2, 0, 0])
    assert confusions(np.array([0, 0, 0, 0, 1, 1, 0]), predicted, top=2) == [
        {"true": 0, "predicted": 1, "count": 2, "share": 40},
        {"true": 0, "predicted": 2, "count": 1, "share": 20},
    ]
    assert confusions(predicted, predicted, top=2) == []


def test_participants_add_up():
    hits = {"verb_at_1": np.array([True, False, True]), "action_at_5": np.array([False] * 3)}
    assert participant_accuracies(hits, ["P02", "P01", "P01"]) == {
        "P01": {"segments": 2, "verb_accuracy_at_1": 50, "action_accuracy_at_5": 0},
        "P02": {"segments": 1, "verb_accuracy_at_1": 100, "action_accuracy_at_5": 0},
    }
    with pytest.raises(EpicError, match="2 participants for 3 segments"):
        participant_accuracies(hits, ["P01", "P01"])


def test_the_report_can_be_written_as_json_and_takes_tensors():
    rng = np.random.default_rng(0)
    verb_true, noun_true = rng.integers(0, 4, 50), rng.integers(0, 6, 50)
    verb, noun = np.eye(4)[verb_true] * 5, np.eye(6)[noun_true] * 5
    participants = ["P01"] * 20 + ["P18"] * 30
    report = diagnose(verb, noun, verb_true, noun_true, participants)
    assert report["action_mean_class_accuracy"] == 100
    assert report["noun_confusions"] == report["action_confusions"] == []
    assert report["participants"]["P18"]["action_accuracy_at_1"] == 100
    gap = 100 - 100 * np.exp(5) / (np.exp(5) + 3)
    assert report["verb_expected_calibration_error"] == pytest.approx(gap)
    both = (1 - gap / 100) * np.exp(5) / (np.exp(5) + 5)
    assert report["action_expected_calibration_error"] == pytest.approx(100 - 100 * both)
    tensors = [torch.from_numpy(x) for x in (verb, noun, verb_true, noun_true)]
    assert json.loads(json.dumps(diagnose(*tensors, participants))) == report


def test_actions_are_confused_as_pairs():
    verb, noun = np.eye(3)[[0, 0, 1, 2]] * 9, np.eye(5)[[4, 4, 2, 2]] * 9
    report = diagnose(verb, noun, [0, 1, 1, 2], [4, 4, 4, 2], ["P01"] * 4)
    assert report["action_confusions"] == [
        {"true": [1, 4], "predicted": [0, 4], "count": 1, "share": 50},
        {"true": [1, 4], "predicted": [1, 2], "count": 1, "share": 50},
    ]
    assert report["action_mean_class_accuracy"] == pytest.approx(200 / 3)
