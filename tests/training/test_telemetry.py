"""What a training says of itself, also in `training.tsv`; test_loop.py looks at a real one."""

import pytest

from epic100.base.errors import EpicError
from epic100.base.machine import driver_version
from epic100.training.epoch_table import COLUMNS, read_epochs, write_epochs
from epic100.training.telemetry import loader_advice
from support.checkout import python
from support.made_up import ROWS, write_history


def test_a_slow_loader_is_reported_with_its_figures_and_what_would_help():
    text = loader_advice(waited=0.9, spent=1.2, workers=2, cores=18)
    assert text.startswith(
        "the loader is the limit: of 1.20 s an iteration 0.90 s (75 %) are spent waiting for data, "
        "0.30 s computing; raise `train: workers:` from 2 towards the 18 cores"
    )
    assert "videos: proxy:" in text
    text = loader_advice(waited=0.9, spent=1.2, workers=17, cores=18)  # all cores load already
    assert "train: workers:" not in text and "videos: proxy:" in text and "more cores" in text


def test_the_driver_names_its_version_in_a_file(tmp_path):
    file = tmp_path / "version"
    assert driver_version(file) is None
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
    )
    assert driver_version(file) == "535.104.05"


@pytest.mark.parametrize("row, words_of_error", [
    (ROWS[0].replace("1.9855", "nan?"), "line 2: loss is 'nan?'; expected the training"),
    (ROWS[0] + "\t9", "line 2: 14 fields, the header has 13"),
])  # fmt: skip
def test_a_field_that_is_no_number_names_file_line_and_column(tmp_path, row, words_of_error):
    with pytest.raises(EpicError, match=words_of_error.replace("?", r"\?")):
        read_epochs(write_history(tmp_path, row))


def test_what_was_written_is_read(tmp_path):
    rows = [{name: None if name == "verb_top1" else number for number, name in enumerate(COLUMNS)}]
    write_epochs(rows, tmp_path / "training.tsv")
    (read,) = read_epochs(tmp_path / "training.tsv").to_dict("records")
    assert read.pop("verb_top1") != read.get("verb_top1")  # NaN
    assert read == {name: n for n, name in enumerate(COLUMNS) if name != "verb_top1"}


def test_a_figure_reads_the_table_without_a_line_of_mmengine_or_torch():
    python(
        "-c",
        "import epic100.figures.training, epic100.training.epoch_table, sys\n"
        "assert not {'torch', 'mmengine', 'mmaction'} & set(sys.modules), 'imported'",
    )
