import pytest

from epic100.figures.training import plot_training
from epic100.training.epoch_table import COLUMNS, read_epochs
from support.pictures import size, words

ROWS = [
    "1\t16\t0.003\t1.9855\t\t\t\t\t\t\t14.29\t0.5\t9.0",
    "2\t32\t0.0015\t1.6355\t93.48\t100.00\t81.25\t99.50\t75.00\t97.50\t20.00\t0.25\t11.0",
]


@pytest.fixture
def write(tmp_path):
    def write(*rows):
        path = tmp_path / "training.tsv"
        path.write_text("\n".join(["\t".join(COLUMNS), *rows]) + "\n")
        return path

    return write


def test_the_picture_tells_accuracy_rate_and_the_share_of_waiting(write, tmp_path):
    plot_training(read_epochs(write(*ROWS)), tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert "2 epochs in 20 seconds; 75.0 % top-1 actions at the end" in said
    share = 100 * (0.5 * 9 + 0.25 * 11) / 20
    assert f"17.1 segments a second; {share:.0f} % of the time went into waiting for data." in said
    assert {"training loss", "accuracy on val in %", "learning rate", "seconds an epoch",
            "compute", "waiting for data", "verb top-1", "action top-1"} <= set(said)  # fmt: skip


def test_a_training_that_was_never_validated_or_logged_still_makes_a_picture(write, tmp_path):
    plot_training(read_epochs(write(ROWS[0])), tmp_path / "a.svg")
    assert "1 epoch in 9 seconds" in words(tmp_path / "a.svg")
    plot_training(read_epochs(write()), tmp_path / "b.svg")
    assert "results/training.tsv has no row" in words(tmp_path / "b.svg")


def test_three_hundred_epochs_fit_in_a_small_picture(write, tmp_path):
    rows = [ROWS[1].replace("2\t32", f"{epoch}\t{16 * epoch}", 1) for epoch in range(1, 301)]
    plot_training(read_epochs(write(*rows)), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size < 400_000
    assert max(size(tmp_path / "a.svg")) < 1000
