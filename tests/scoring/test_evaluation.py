import json
from pathlib import Path

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.registered import OutputsLoss
from epic100.scoring.evaluation import evaluate
from epic100.scoring.metrics import official_metrics
from epic100.scoring.predictions import (
    Predictions,
    complete_scores,
    read_predictions,
    write_predictions,
)
from support.made_up import segment_list

PAIRS = [(0, 1, 12), (0, 5, 3), (2, 5, 5), (2, 1, 6), (9, 7, 20), (3, 8, 1)]
TASKS = ("verb", "noun", "action")
LISTS = {
    "tail_verbs": "verb\n9\n3\n",
    "tail_nouns": "noun\n5\n",
    "unseen_participants": "participant_id\nP02\n",
}


class Stage:
    """A val split with 40 segments of P00, P01 and P02, and predictions for some of them."""

    def __init__(self, folder, right, predicted=40):
        self.true = np.random.default_rng(0).integers(0, len(PAIRS), 40)
        self.ids = [f"s{number}" for number in range(40)]
        self.segments = segment_list(folder / "val.txt", self.ids, [PAIRS[t] for t in self.true])
        self.predictions, self.out = folder / "val.pt", folder / "metrics.json"
        said = np.where(np.arange(40) < right, self.true, (self.true + 1) % len(PAIRS))
        logits = torch.nn.functional.one_hot(torch.tensor(said), len(PAIRS)).float() * 8
        self.predict(logits.log_softmax(1)[:predicted])
        self.lists, self.reduce = {key: str(folder / f"{key}.csv") for key in LISTS}, "max"
        for key, path in self.lists.items():
            Path(path).write_text(LISTS[key])

    def evaluate(self, **kwargs):
        given = {"lists": self.lists, "reduce": self.reduce, **kwargs}
        return evaluate(self.predictions, self.segments, self.out, **given)

    def predict(self, log_probs, pairs=PAIRS):
        ids = self.ids[: len(log_probs)]
        made = Predictions("val", ids, log_probs, pairs, 97, 300, {"split": "train"})
        write_predictions(made, self.predictions)


def test_figures_are_the_official_ones_of_the_lists_under_their_names(tmp_path):
    stage = Stage(tmp_path, right=30)
    figures = stage.evaluate()
    assert json.loads(stage.out.read_text()) == figures
    verb, noun, _ = complete_scores(read_predictions(stage.predictions, "val"), stage.ids, "max")
    true = np.array(PAIRS)[stage.true, :2].T
    participants = [f"P0{number % 3}" for number in range(40)]
    expected = official_metrics(verb, noun, *true, participants, [9, 3], [5], ["P02"])
    assert expected.items() <= figures.items() and None not in expected.values()
    assert figures["overall_action_accuracy_at_1"] == 75.0
    assert figures["segments"] == figures["predicted"] == 40 and figures["reduce"] == "max"
    people = figures["diagnostics"]["participants"].values()
    assert sum(person["segments"] for person in people) == 40
    assert figures["trained_on"] == {"split": "train"}
    stage.lists = {"tail_verbs": stage.lists["tail_verbs"]}
    absent = {key for key, figure in stage.evaluate().items() if figure is None}
    empty = {f"unseen_{task}_accuracy_at_1" for task in TASKS} | {"tail_noun_accuracy_at_1"}
    assert {key for key in absent if "beyond_train" not in key} == empty


def test_the_loss_is_the_one_that_training_minimises_over_pairs_that_it_knows(tmp_path):
    generator = torch.Generator().manual_seed(0)
    stage = Stage(tmp_path, right=30)
    sizes = {"pair": len(PAIRS) - 1, "verb": 97, "noun": 300}
    logits = torch.randn(40, sum(sizes.values()), generator=generator)
    parts = [part.log_softmax(1) for part in logits.split([*sizes.values()], dim=1)]
    made = Predictions("val", stage.ids, parts[0], PAIRS[:-1], 97, 300, {}, "", *parts[1:])
    write_predictions(made, stage.predictions)
    known = torch.tensor(stage.true) < len(PAIRS) - 1
    loss = OutputsLoss(PAIRS[:-1], "both", 97, 300)
    expected = loss(logits[known], torch.tensor(stage.true)[known])
    assert 0 < known.sum() < 40
    assert stage.evaluate()["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("predicted", [20, 0])
def test_readable_figures_count_only_segments_that_were_predicted(tmp_path, predicted):
    stage = Stage(tmp_path, right=predicted, predicted=predicted)
    figures = stage.evaluate()
    assert figures["predicted"] == predicted and figures["segments"] == 40
    readable = {figures[f"readable_{task}_accuracy_at_{k}"] for task in TASKS for k in (1, 5)}
    assert readable == ({100} if predicted else {None})
    # All other segments get the most frequent pair, (9, 7), which is pair 4.
    right = predicted + (stage.true[predicted:] == 4).sum()
    assert figures["overall_action_accuracy_at_1"] == pytest.approx(100 * right / 40)


def test_both_ways_to_fold_are_reported_and_the_chosen_one_stands_on_top(tmp_path):
    stage = Stage(tmp_path, right=40)
    # Verb 2 is in two pairs of 0.3 each, verb 9 in one of 0.4. So the sum says 2, the maximum 9.
    stage.predict(torch.tensor([[0, 0, 0.3, 0.3, 0.4, 0]]).clamp(min=1e-9).log().repeat(40, 1))
    verbs = np.array(PAIRS)[stage.true][:, 0]
    expected = {way: 100 * (verbs == verb).mean() for way, verb in (("max", 9), ("logsumexp", 2))}
    for way in expected:
        figures = stage.evaluate(reduce=way)
        assert figures["reduce"] == way
        assert figures["overall_verb_accuracy_at_1"] == pytest.approx(expected[way])
        for each, value in expected.items():
            found = figures["by_reduce"][each]
            assert found["overall_verb_accuracy_at_1"] == pytest.approx(value)
            assert found["readable_verb_accuracy_at_1"] == pytest.approx(value)


def test_segments_whose_pair_training_lacks_are_counted_and_measured(tmp_path):
    stage = Stage(tmp_path, right=40)
    pairs = [(0, 1, 5), (0, 7, 5), (2, 5, 5), (9, 5, 5)]
    stage.predict(torch.tensor([[0.27, 0.25, 0.25, 0.23]]).log().repeat(40, 1), pairs)
    true = [PAIRS[number][:2] for number in stage.true]
    beyond = [verb for verb, noun in true if (verb, noun) not in {(0, 1), (2, 5)}]
    figures = stage.evaluate()
    assert figures["beyond_train"] == len(beyond) > 0
    assert figures["beyond_train_action_accuracy_at_1"] == 0
    # Verb 0 is guessed for all.
    verb = figures["beyond_train_verb_accuracy_at_1"]
    assert verb == pytest.approx(100 * beyond.count(0) / len(beyond)) and verb > 0


@pytest.mark.parametrize(
    "break_it, words",
    [
        (
            lambda s: s.segments.write_text(s.segments.read_text().replace(" 9 7 ", " 97 7 ")),
            r"verb label 97 of row",
        ),
        (lambda s: setattr(s, "reduce", "mean"), "reduce is 'mean'; expected one of logsumexp, m"),
        (lambda s: s.segments.write_text(""), r"val\.txt: no segment in it"),
        (lambda s: s.segments.unlink(), r"val\.txt: no such segment list"),
        (lambda s: s.predictions.write_text("words"), r"val\.pt: not readable as predictions"),
        (
            lambda s: s.lists.update(tail_verbs=s.lists["tail_nouns"]),
            r"tail_nouns\.csv: line 1: column verb missing",
        ),
        (lambda s: s.lists.update(tail_nouns="none.csv"), r"none\.csv: no such file"),
    ],
)
def test_bad_input_is_one_error_and_leaves_no_metrics(tmp_path, break_it, words):
    stage = Stage(tmp_path, right=30)
    break_it(stage)
    with pytest.raises(EpicError, match=words):
        stage.evaluate()
    assert not stage.out.exists()
