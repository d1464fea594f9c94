import subprocess
import sys

import pytest

from epic100.base.errors import EpicError
from epic100.training.epoch_table import COLUMNS, read_epochs, write_epochs

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


def test_epochs_without_validation_have_empty_fields(write):
    history = read_epochs(write(*ROWS))
    assert history["epoch"].tolist() == [1, 2]
    assert history["verb_top1"].isna().tolist() == [True, False]
    assert history["action_top5"][1] == 97.5 and history["seconds"].sum() == 20


@pytest.mark.parametrize("row, words_of_error", [
    (ROWS[0].replace("1.9855", "nan?"), "line 2: loss is 'nan?'; expected a number"),
    (ROWS[0] + "\t9", "line 2: 14 fields, the header has 13"),
])  # fmt: skip
def test_a_field_that_is_no_number_names_file_line_and_column(write, row, words_of_error):
    with pytest.raises(EpicError, match=words_of_error.replace("?", r"\?")):
        read_epochs(write(row))


def test_what_was_written_is_read(tmp_path):
    rows = [{name: None if name == "verb_top1" else number for number, name in enumerate(COLUMNS)}]
    write_epochs(rows, tmp_path / "training.tsv")
    (read,) = read_epochs(tmp_path / "training.tsv").to_dict("records")
    assert read.pop("verb_top1") != read.get("verb_top1")  # NaN
    assert read == {name: n for n, name in enumerate(COLUMNS) if name != "verb_top1"}


def test_a_figure_reads_the_table_without_a_line_of_mmengine_or_torch():
    program = (
        "import epic100.figures.training, epic100.training.epoch_table, sys\n"
        "assert not {'torch', 'mmengine', 'mmaction'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
