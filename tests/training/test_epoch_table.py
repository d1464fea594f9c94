import pytest

from epic100.base.errors import EpicError
from epic100.training.epoch_table import COLUMNS, read_epochs, write_epochs
from support.checkout import python
from support.epoch_rows import ROWS, write_history


def test_epochs_without_validation_have_empty_fields(tmp_path):
    history = read_epochs(write_history(tmp_path, *ROWS))
    assert history["epoch"].tolist() == [1, 2]
    assert history["verb_top1"].isna().tolist() == [True, False]
    assert history["action_top5"][1] == 97.5 and history["seconds"].sum() == 20


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
