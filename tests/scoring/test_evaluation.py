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

PAIRS = [(0, 1, 12), (0, 5, 3), (2, 5, 5), (2, 1, 6), (9, 7, 20), (3, 8, 1)]
TASKS = ("verb", "noun", "action")
LISTS = {"tail_verbs": "verb\n9\n3\n", "tail_nouns": "noun\n5\n",
         "unseen_participants": "participant_id\nP18\n"}  # fmt: skip


class Stage:
    """A val split with 40 segments of P01, P02 and P18, and predictions for some of them."""

    def __init__(self, folder, right, seed=0, predicted=40):
        rng = np.random.default_rng(seed)
        self.true = rng.integers(0, len(PAIRS), 40)
        self.participants = rng.choice(["P01", "P02", "P18"], 40)
        self.ids = [f"{p}_01_{i}" for i, p in enumerate(self.participants)]
        said = np.where(np.arange(40) < right, self.true, (self.true + 1) % len(PAIRS))
        logits = torch.nn.functional.one_hot(torch.tensor(said), len(PAIRS)).float() * 8
        self.segments, self.predictions = folder / "val.txt", folder / "val.pt"
        self.segments.write_text(
            "".join(
                f"{p}/{p}_01.MP4 {i} {i + 50} {PAIRS[t][0]} {PAIRS[t][1]} {name}\n"
                for i, (p, t, name) in enumerate(
                    zip(self.participants, self.true, self.ids, strict=True)
                )
            )
        )
        self.predict(logits.log_softmax(1)[:predicted])
        self.out = folder / "metrics.json"
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
    expected = official_metrics(verb, noun, *true, stage.participants, [9, 3], [5], ["P18"])
    assert expected.items() <= figures.items() and None not in expected.values()
    assert figures["overall_action_accuracy_at_1"] == 75.0
    assert figures["segments"] == figures["predicted"] == 40 and figures["reduce"] == "max"
    assert figures["trained_on"] == {"split": "train"}


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


def test_a_figure_whose_list_is_absent_is_null(tmp_path):
    stage = Stage(tmp_path, right=30)
    stage.lists = {"tail_verbs": stage.lists["tail_verbs"]}
    empty = {f"unseen_{task}_accuracy_at_1" for task in TASKS} | {"tail_noun_accuracy_at_1"}
    missing = {key for key, figure in stage.evaluate().items() if figure is None}
    assert empty == {key for key in missing if "beyond_train" not in key}


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
    lacking = {t for t, pair in enumerate(PAIRS) if pair[:2] not in {p[:2] for p in pairs}}
    beyond = np.isin(stage.true, list(lacking))
    true = np.array(PAIRS)[stage.true][:, :2].tolist()
    figures = stage.evaluate()
    assert figures["beyond_train"] == beyond.sum() > 0
    right = np.array([pair[0] == 0 for pair in true])
    assert figures["beyond_train_action_accuracy_at_1"] == 0
    verb = figures["beyond_train_verb_accuracy_at_1"]
    assert verb == pytest.approx(100 * right[beyond].mean()) and verb > 0


def test_what_the_official_tool_does_not_print_stands_in_the_file(tmp_path):
    stage = Stage(tmp_path, right=30)
    stage.evaluate()
    found = json.loads(stage.out.read_text())["diagnostics"]
    assert set(found["participants"]) == {"P01", "P02", "P18"}
    assert sum(p["segments"] for p in found["participants"].values()) == 40
    for task in TASKS:
        assert 0 < found[f"{task}_mean_class_accuracy"] < 100
        assert 0 < found[f"{task}_expected_calibration_error"] < 100
    assert sum(mistake["count"] for mistake in found["action_confusions"]) == 10


@pytest.mark.parametrize(
    "break_it, words",
    [
        (lambda s: s.segments.write_text(s.segments.read_text().replace(" 9 7 ", " 97 7 ")),
         r"verb label 97 of row"),
        (lambda s: setattr(s, "reduce", "mean"), "reduce is 'mean'; expected one of logsumexp, m"),
        (lambda s: s.segments.write_text(""), r"val\.txt: no segment in it"),
        (lambda s: s.segments.unlink(), r"val\.txt: no such segment list"),
        (lambda s: s.predictions.write_text("words"), r"val\.pt: not readable as predictions"),
        (lambda s: s.lists.update(tail_verbs=s.lists["tail_nouns"]),
         r"tail_nouns\.csv: line 1: column verb missing"),
        (lambda s: s.lists.update(tail_nouns="none.csv"), r"none\.csv: no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_error_and_leaves_no_metrics(tmp_path, break_it, words):
    stage = Stage(tmp_path, right=30)
    break_it(stage)
    with pytest.raises(EpicError, match=words):
        stage.evaluate()
    assert not stage.out.exists()
