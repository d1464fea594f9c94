import re

import pytest

from epic100.figures.training import plot_training
from epic100.training.epoch_table import read_epochs
from support.epoch_rows import ROWS, write_history
from support.pictures import cut, size, words

TICKS = re.compile(r'id="xtick_\d+">.*?<text[^>]*>([^<]+)</text>', re.DOTALL)


def drawn(folder, rows):
    plot_training(read_epochs(write_history(folder, *rows)), folder / "a.svg")
    return folder / "a.svg"


def test_the_picture_tells_accuracy_rate_and_the_share_of_waiting(tmp_path):
    said = words(drawn(tmp_path, ROWS))
    assert "2 epochs in 20 seconds; 75.0 % top-1 actions at the end" in said
    share = 100 * (0.5 * 9 + 0.25 * 11) / 20
    assert f"17.1 segments a second; {share:.0f} % of the time went into waiting for data." in said
    assert {"training loss, mean of the epoch", "accuracy on val in %", "learning rate", "compute",
            "seconds per epoch", "waiting for data", "verb", "action"} <= set(said)  # fmt: skip


@pytest.mark.parametrize("rows, text", [
    (ROWS[:1], "1 epoch in 9 seconds"), ([], "results/training.tsv has no row"),
])  # fmt: skip
def test_a_training_that_was_never_validated_or_logged_still_makes_a_picture(tmp_path, rows, text):
    assert text in words(drawn(tmp_path, rows))


@pytest.mark.parametrize("count", [1, 3, 300])
def test_ticks_are_whole_epochs_and_the_picture_stays_small(tmp_path, count):
    rows = [ROWS[1].replace("2\t32", f"{epoch}\t{epoch}", 1) for epoch in range(1, count + 1)]
    path = drawn(tmp_path, rows)
    ticks = TICKS.findall(path.read_text())
    assert {float(tick) for tick in ticks} <= set(range(count + 1)) and len(ticks) >= 4
    assert path.stat().st_size < 400_000 and max(size(path)) < 1000 and cut(path) == []
