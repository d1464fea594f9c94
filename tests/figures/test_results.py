import pandas as pd
import pytest

from epic100.figures.outcomes import by_class, outcomes
from epic100.figures.results import plot_confusion, plot_per_class
from epic100.scoring.predictions import read_predictions
from support.pictures import size, words
from support.small_predictions import NAMES, PAIRS, make_predictions


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    files = tmp_path_factory.mktemp("results")
    make_predictions(files)
    return outcomes(read_predictions(files / "val.pt", "val"), files / "val.txt", "max")


def test_classes_are_named_with_their_segments(outcome, tmp_path):
    table = by_class(outcome, PAIRS, NAMES)
    plot_per_class(table, tmp_path / "a.svg")
    for row in table.itertuples():
        assert f"{row.name} ({row.val_segments})" in words(tmp_path / "a.svg")


def test_the_commonest_mistake_is_the_title_of_the_confusion_if_it_is_common(outcome, tmp_path):
    plot_confusion(outcome, NAMES, tmp_path / "few.svg")  # 35 segments, mostly right
    assert words(tmp_path / "few.svg")[0].startswith("No frequent verb is taken for another in 10")
    many = pd.concat([outcome] * 10, ignore_index=True)
    known = many[many["predicted"] & (many["verb"] != many["verb_guess"])]
    counts = known.groupby(["verb", "verb_guess"]).size()
    true, guess = counts.idxmax()
    total = (many["predicted"] & (many["verb"] == true)).sum()
    plot_confusion(many, NAMES, tmp_path / "a.svg")
    assert words(tmp_path / "a.svg")[0] == (
        f"verb {true} is taken for verb {guess} in {counts.max()} of {total} segments, "
        "the most common mistake"
    )
    plot_confusion(outcome.assign(verb_guess=outcome["verb"]), NAMES, tmp_path / "b.svg")
    assert words(tmp_path / "b.svg").count("100") == 3  # of each row, all on the diagonal


def test_one_wrong_segment_of_a_class_is_no_finding(outcome, tmp_path):
    table = by_class(outcome, PAIRS, NAMES)
    table.loc[table.index[-1], ["val_segments", "top1"]] = 1, 0.0
    plot_per_class(table, tmp_path / "a.svg")
    enough = (table["val_segments"] >= 10).sum()
    assert words(tmp_path / "a.svg")[0].startswith(f"{enough} of {enough} verbs and nouns with 10")


def test_a_split_without_a_readable_segment_makes_pictures_that_say_so(outcome, tmp_path):
    nothing = outcome.assign(predicted=False)
    plot_confusion(nothing, NAMES, tmp_path / "a.svg")
    assert "no validation segment could be read" in words(tmp_path / "a.svg")
    plot_per_class(by_class(nothing, PAIRS, NAMES), tmp_path / "b.svg")
    assert max(size(tmp_path / "b.svg")) < 1000
