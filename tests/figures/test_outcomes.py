"""Which segments are right, by the way to fold pairs, and the pictures of it."""

import pandas as pd
import pytest

from epic100.figures.results import by_class, confusion, plot_confusion, plot_per_class
from epic100.scoring.outcomes import outcomes
from epic100.scoring.predictions import read_predictions
from epic100.scoring.truth import read_truth
from support.made_up import NAMES, PAIRS, make_predictions
from support.pictures import size, words


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes")
    make_predictions(folder)
    return folder


@pytest.fixture(scope="module", params=["max", "logsumexp"])
def outcome(files, request):
    truth = read_truth(files / "val.txt", {})
    return outcomes(read_predictions(files / "val.pt", "val"), truth, request.param)


def test_guess_and_scores_fit_the_hits(outcome):
    right = (outcome["verb"] == outcome["verb_guess"]) & (outcome["noun"] == outcome["noun_guess"])
    assert (right == outcome["action_at_1"]).all() and right.mean() > 0.5
    confidence, truth_score = outcome["action_confidence"], outcome["action_truth_score"]
    assert (confidence == truth_score)[right].all() and (confidence >= truth_score).all()
    assert confidence.between(0, 1).all()
    assert outcome["predicted"].tolist() == [True] * 35 + [False] * 5
    assert set(outcome["participant"]) == {"P00", "P01", "P02"}


def test_classes_add_up_to_the_readable_segments(outcome):
    table = by_class(outcome, PAIRS, NAMES)
    for task, classes in (("verb", 3), ("noun", 2)):
        part = table[table["task"] == task]
        assert len(part) == classes and part["val_segments"].sum() == 35
        assert part["val_segments"].is_monotonic_decreasing
        assert part["train_segments"].sum() == 18
        mean = (part["top1"] * part["val_segments"]).sum() / 35
        assert mean == pytest.approx(100 * outcome[f"{task}_at_1"][:35].mean())
    mistaken = table[table["top1"] < 100]
    assert (mistaken["often_taken_for"] != "").all() and (mistaken["name"] != "").all()


def test_a_class_that_train_alone_has_stands_in_the_table_without_accuracy(outcome):
    table = by_class(outcome, [*PAIRS, (3, 2, 7)], NAMES)
    row = table[(table["task"] == "verb") & (table["class_id"] == 3)].iloc[0]
    assert (row["name"], row["train_segments"], row["val_segments"]) == ("verb 3", 7, 0)
    assert pd.isna(row["top1"]) and row["often_taken_for"] == ""


def test_confusion_counts_every_readable_segment_of_the_frequent_classes_once(outcome):
    table = confusion(outcome, "verb", 2)
    frequent = outcome["verb"][:35].value_counts()[:2]
    assert table.index.tolist() == frequent.index.tolist()
    assert table.columns.tolist() == [*frequent.index, -1]
    assert table.sum(axis=1).tolist() == frequent.tolist()
    for verb in table.index:
        right = (outcome["verb_at_1"] & (outcome["verb"] == verb))[:35].sum()
        assert table.loc[verb, verb] == right


# They are drawn alike for each way to fold pairs.
PICTURES = pytest.mark.parametrize("outcome", ["max"], indirect=True, scope="module")


@PICTURES
def test_classes_are_named_with_their_segments(outcome, tmp_path):
    table = by_class(outcome, PAIRS, NAMES)
    plot_per_class(table, tmp_path / "a.svg")
    for row in table.itertuples():
        assert f"{row.name} ({row.val_segments})" in words(tmp_path / "a.svg")


@PICTURES
def test_the_commonest_mistake_is_the_title_of_the_confusion_if_there_is_one(outcome, tmp_path):
    known = outcome[outcome["predicted"] & (outcome["verb"] != outcome["verb_guess"])]
    counts = known.groupby(["verb", "verb_guess"]).size()
    true, guess = counts.idxmax()
    total = (outcome["predicted"] & (outcome["verb"] == true)).sum()
    plot_confusion(outcome, NAMES, tmp_path / "a.svg")
    assert words(tmp_path / "a.svg")[0] == (
        f"verb {true} is taken for verb {guess} in {counts.max()} of {total} segments, "
        "the most common mistake"
    )
    plot_confusion(outcome.assign(verb_guess=outcome["verb"]), NAMES, tmp_path / "b.svg")
    said = words(tmp_path / "b.svg")
    assert said[0] == "No frequent verb is taken for another one of them"
    assert said.count("100") == 3  # of each row, all on the diagonal


@PICTURES
def test_one_wrong_segment_of_a_class_is_no_finding(outcome, tmp_path):
    table = by_class(outcome, PAIRS, NAMES)
    table.loc[table.index[-1], ["val_segments", "top1"]] = 1, 0.0
    plot_per_class(table, tmp_path / "a.svg")
    enough = (table["val_segments"] >= 10).sum()
    assert words(tmp_path / "a.svg")[0].startswith(f"{enough} of {enough} verbs and nouns with 10")


@PICTURES
def test_a_split_without_a_readable_segment_makes_pictures_that_say_so(outcome, tmp_path):
    nothing = outcome.assign(predicted=False)
    plot_confusion(nothing, NAMES, tmp_path / "a.svg")
    assert "no validation segment could be read" in words(tmp_path / "a.svg")
    plot_per_class(by_class(nothing, PAIRS, NAMES), tmp_path / "b.svg")
    assert max(size(tmp_path / "b.svg")) < 1000
