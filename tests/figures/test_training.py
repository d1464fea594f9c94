import re

import pytest

from epic100.figures.training import plot_training
from epic100.training.epoch_table import read_epochs
from support.epoch_rows import ROWS, write_history
from support.pictures import size, words

TICKS = re.compile(r'id="xtick_\d+">.*?<text[^>]*>([^<]+)</text>', re.DOTALL)


def test_the_picture_tells_accuracy_rate_and_the_share_of_waiting(tmp_path):
    plot_training(read_epochs(write_history(tmp_path, *ROWS)), tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert "2 epochs in 20 seconds; 75.0 % top-1 actions at the end" in said
    share = 100 * (0.5 * 9 + 0.25 * 11) / 20
    assert f"17.1 segments a second; {share:.0f} % of the time went into waiting for data." in said
    assert {"training loss, mean of the epoch", "accuracy on val in %", "learning rate", "compute",
            "seconds per epoch", "waiting for data", "verb", "action"} <= set(said)  # fmt: skip


def test_a_training_that_was_never_validated_or_logged_still_makes_a_picture(tmp_path):
    plot_training(read_epochs(write_history(tmp_path, ROWS[0])), tmp_path / "a.svg")
    assert "1 epoch in 9 seconds" in words(tmp_path / "a.svg")
    plot_training(read_epochs(write_history(tmp_path)), tmp_path / "b.svg")
    assert "results/training.tsv has no row" in words(tmp_path / "b.svg")


def test_three_hundred_epochs_fit_in_a_small_picture(tmp_path):
    rows = [ROWS[1].replace("2\t32", f"{epoch}\t{16 * epoch}", 1) for epoch in range(1, 301)]
    plot_training(read_epochs(write_history(tmp_path, *rows)), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size < 400_000
    assert max(size(tmp_path / "a.svg")) < 1000


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("count", [1, 3, 30])
def test_ticks_are_whole_epochs(tmp_path, count, narrow):
    rows = [ROWS[1].replace("2\t32", f"{epoch}\t{epoch}", 1) for epoch in range(1, count + 1)]
    plot_training(read_epochs(write_history(tmp_path, *rows)), tmp_path / "a.svg", narrow)
    ticks = TICKS.findall((tmp_path / "a.svg").read_text())
    assert {float(tick) for tick in ticks} <= set(range(count + 1)) and len(ticks) >= 4
