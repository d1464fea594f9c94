"""The metrics of metrics.json on a small val split, and what is rejected."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.registered import OutputsLoss
from epic100.scoring.evaluation import evaluate
from epic100.scoring.metrics import TASKS
from epic100.scoring.predictions import Predictions, write_predictions
from support.made_up import segment_list

# Each is a verb, a noun and their number of training segments. Pair 4 is the most frequent one.
PAIRS = [(0, 1, 12), (0, 5, 3), (2, 5, 5), (2, 1, 6), (9, 7, 20), (3, 8, 1)]
LISTS = {
    "tail_verbs": "verb\n9\n3\n",
    "tail_nouns": "noun\n5\n",
    "unseen_participants": "participant_id\nP02\n",
}


class Validation:
    """The files of a val split with 40 segments of P00, P01 and P02.

    Attributes:
        true: The true pair of each segment, as its number in `PAIRS`.
        lists: The paths of the official lists by their keys.
    """

    def __init__(self, folder, right, predicted=40):
        """Write the files; of the first `predicted` segments, the first `right` are right."""
        self.true = np.random.default_rng(0).integers(0, len(PAIRS), 40)
        self.ids = [f"s{number}" for number in range(40)]
        pairs = [PAIRS[number] for number in self.true]
        self.segments = segment_list(folder / "val.txt", self.ids, pairs)
        self.predictions = folder / "val.pt"
        self.out = folder / "metrics.json"
        guess = np.where(np.arange(40) < right, self.true, (self.true + 1) % len(PAIRS))
        logits = torch.nn.functional.one_hot(torch.tensor(guess), len(PAIRS)).float() * 8
        self.predict(logits.log_softmax(1)[:predicted])
        self.lists = {key: str(folder / f"{key}.csv") for key in LISTS}
        for key, path in self.lists.items():
            Path(path).write_text(LISTS[key])

    def evaluate(self, reduce="max"):
        """Write metrics.json, and return its content."""
        return evaluate(self.predictions, self.segments, self.out, lists=self.lists, reduce=reduce)

    def predict(self, log_probs, pairs=PAIRS, **heads):
        """Write predictions of the first segments, one for each row."""
        ids = self.ids[: len(log_probs)]
        trained_on = {"split": "train"}
        made = Predictions("val", ids, log_probs, pairs, 97, 300, trained_on, **heads)
        write_predictions(made, self.predictions)


def test_metrics_json_has_the_official_metrics(tmp_path):
    val = Validation(tmp_path, right=30)
    metrics = val.evaluate()
    assert json.loads(val.out.read_text()) == metrics
    assert metrics["overall_action_accuracy_at_1"] == 75.0, "30 of 40 are right"
    # Every third segment is of P02: 10 of the first 30, which are right, and 13 of all 40.
    assert metrics["unseen_action_accuracy_at_1"] == pytest.approx(100 * 10 / 13)
    assert metrics["segments"] == metrics["predicted"] == 40
    assert metrics["trained_on"] == {"split": "train"}


def test_a_metric_without_its_official_list_is_null(tmp_path):
    val = Validation(tmp_path, right=30)
    del val.lists["tail_nouns"], val.lists["unseen_participants"]
    null = {key for key, value in val.evaluate().items() if value is None}
    expected = {f"unseen_{task}_accuracy_at_1" for task in TASKS} | {"tail_noun_accuracy_at_1"}
    # All pairs are in training, so there is no value beyond it either.
    assert {key for key in null if not key.startswith("beyond_train")} == expected


def test_the_loss_is_the_one_that_training_minimises(tmp_path):
    val = Validation(tmp_path, right=30)
    trained_pairs = PAIRS[:-1]
    sizes = [len(trained_pairs), 97, 300]
    logits = torch.randn(40, sum(sizes), generator=torch.Generator().manual_seed(0))
    pair, verb, noun = (scores.log_softmax(1) for scores in logits.split(sizes, dim=1))
    val.predict(pair, trained_pairs, verb_log_probs=verb, noun_log_probs=noun)
    true = torch.tensor(val.true)
    is_trained = true < len(trained_pairs)
    expected = OutputsLoss(trained_pairs, "both", 97, 300)(logits[is_trained], true[is_trained])
    assert val.evaluate()["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("predicted", [20, 0])
def test_readable_metrics_count_only_segments_that_were_predicted(tmp_path, predicted):
    val = Validation(tmp_path, right=predicted, predicted=predicted)
    metrics = val.evaluate()
    assert metrics["predicted"] == predicted and metrics["segments"] == 40
    readable = {metrics[f"readable_{task}_accuracy_at_{k}"] for task in TASKS for k in (1, 5)}
    assert readable == ({100} if predicted else {None})
    # All other segments get the most frequent pair, which is pair 4.
    right = predicted + (val.true[predicted:] == 4).sum()
    assert metrics["overall_action_accuracy_at_1"] == pytest.approx(100 * right / 40)


def test_counts_are_of_segments_with_a_prediction(tmp_path):
    # All 10 predicted segments are wrong. The other 30 get the prior, which is mostly wrong.
    figures = Validation(tmp_path, right=0, predicted=10).evaluate()["diagnostics"]
    for task in TASKS:
        right = 10 - sum(row["count"] for row in figures[f"{task}_confusions"])
        # Neighbours in `PAIRS` may share the verb or the noun.
        assert 0 <= right <= (0 if task == "action" else 9)
    people = figures["participants"].values()
    assert [row["predicted"] for row in people] == [4, 3, 3]
    assert {row["readable_action_accuracy_at_1"] for row in people} == {0}


@pytest.mark.parametrize("reduce", ["max", "logsumexp"])
def test_the_main_metrics_follow_the_reduction(tmp_path, reduce):
    val = Validation(tmp_path, right=40)
    # Verb 2 is in two pairs of 0.3 each, verb 9 in one of 0.4. So the sum says 2, the maximum 9.
    val.predict(torch.tensor([[0, 0, 0.3, 0.3, 0.4, 0]]).clamp(min=1e-9).log().repeat(40, 1))
    verbs = np.array(PAIRS)[val.true][:, 0]
    metrics = val.evaluate(reduce)
    assert metrics["reduce"] == reduce
    for method, guess in {"max": 9, "logsumexp": 2}.items():
        accuracy = pytest.approx(100 * (verbs == guess).mean())
        assert metrics["by_reduce"][method]["overall_verb_accuracy_at_1"] == accuracy
        if method == reduce:
            assert metrics["overall_verb_accuracy_at_1"] == accuracy


def test_segments_of_unseen_pairs_have_own_metrics(tmp_path):
    val = Validation(tmp_path, right=40)
    # The guess is verb 0 with noun 1 for all segments.
    pairs = [(0, 1, 5), (0, 7, 5), (2, 5, 5), (9, 5, 5)]
    val.predict(torch.tensor([[0.27, 0.25, 0.25, 0.23]]).log().repeat(40, 1), pairs)
    true = [PAIRS[number][:2] for number in val.true]
    verbs_beyond = [verb for verb, noun in true if (verb, noun) not in {(0, 1), (2, 5)}]
    metrics = val.evaluate()
    assert metrics["beyond_train"] == len(verbs_beyond) > 0
    assert metrics["beyond_train_action_accuracy_at_1"] == 0
    share = 100 * verbs_beyond.count(0) / len(verbs_beyond)
    assert metrics["beyond_train_verb_accuracy_at_1"] == pytest.approx(share) and share > 0


@pytest.mark.parametrize(
    "spoil, words",
    [
        pytest.param(
            lambda val: val.segments.write_text(""), r"val\.txt: no segment in it", id="empty list"
        ),
        pytest.param(
            lambda val: val.predictions.write_text("words"),
            r"val\.pt: not readable as predictions",
            id="no predictions",
        ),
        pytest.param(
            lambda val: val.segments.write_text(2 * val.segments.read_text()),
            r"val\.txt: has the narration_id '\w+' more than once",
            id="each segment twice",
        ),
    ],
)
def test_wrong_input_leaves_no_metrics(tmp_path, spoil, words):
    val = Validation(tmp_path, right=30)
    spoil(val)
    with pytest.raises(EpicError, match=words):
        val.evaluate()
    assert not val.out.exists()
