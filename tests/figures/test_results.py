import pytest

from epic100.figures.outcomes import by_class, outcomes
from epic100.figures.results import plot_confusion, plot_official, plot_per_class
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import read_predictions
from support.pictures import size, words
from support.small_predictions import NAMES, PAIRS, make_predictions


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    make_predictions(folder)
    return folder


@pytest.fixture(scope="module")
def outcome(files):
    return outcomes(read_predictions(files / "val.pt", "val"), files / "val.txt", "max")


@pytest.fixture
def figures(files, tmp_path):
    return evaluate(
        files / "val.pt", files / "val.txt", tmp_path / "metrics.json", lists={}, reduce="max"
    )


def test_every_official_figure_stands_in_the_picture_with_two_digits(outcome, figures, tmp_path):
    figures |= {f"unseen_{task}_accuracy_at_1": 41.378 for task in ("verb", "noun", "action")}
    plot_official(figures, outcome, ["P02"], tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert said.count("41.38") == 3
    for name in ("overall_verb_accuracy_at_1", "overall_noun_accuracy_at_5",
                 "readable_action_accuracy_at_1"):  # fmt: skip
        assert f"{figures[name]:.2f}" in said
    seen = outcome[outcome["participant"] != "P02"]
    assert f"{100 * seen['verb_at_1'].mean():.2f}" in said
    assert {f"seen participants ({len(seen)}), top-1", "unseen participants (13), top-1"} <= set(
        said
    )


def test_a_figure_without_its_list_is_said_to_lack_it(outcome, figures, tmp_path):
    plot_official(figures, outcome, [], tmp_path / "a.svg")
    assert words(tmp_path / "a.svg").count("no list, or no such segment") == 9  # seen, unseen, tail


def test_classes_are_named_with_their_segments(outcome, tmp_path):
    table = by_class(outcome, PAIRS, NAMES)
    plot_per_class(table, tmp_path / "a.svg")
    for row in table.itertuples():
        assert f"{row.name} ({row.val_segments})" in words(tmp_path / "a.svg")


def test_the_commonest_mistake_is_the_title_of_the_confusion(outcome, tmp_path):
    known = outcome[outcome["predicted"] & (outcome["verb"] != outcome["verb_guess"])]
    true, guess = known.groupby(["verb", "verb_guess"]).size().idxmax()
    plot_confusion(outcome, NAMES, tmp_path / "a.svg")
    assert f"Most often, verb {true} is taken for verb {guess}" in words(tmp_path / "a.svg")
    right = outcome.assign(verb_guess=outcome["verb"])
    plot_confusion(right, NAMES, tmp_path / "b.svg")
    assert "No frequent verb is taken for another" in words(tmp_path / "b.svg")
    assert words(tmp_path / "b.svg").count("100") >= 3  # of each row, all on the diagonal


def test_a_split_without_a_readable_segment_makes_pictures_that_say_so(outcome, tmp_path):
    nothing = outcome.assign(predicted=False)
    plot_confusion(nothing, NAMES, tmp_path / "a.svg")
    assert "no validation segment could be read" in words(tmp_path / "a.svg")
    plot_per_class(by_class(nothing, PAIRS, NAMES), tmp_path / "b.svg")
    assert max(size(tmp_path / "b.svg")) < 1000
