import pytest
import torch

from epic100.base.errors import EpicError
from epic100.scoring.predictions import read_predictions, write_predictions
from support.small_predictions import FEW, FEW_PAIRS, predictions

MADE = predictions(FEW[:3], model="abc", trained_on={"split": "train", "load_from": None})


@pytest.fixture
def path(tmp_path):
    write_predictions(MADE, tmp_path / "val.pt")
    return tmp_path / "val.pt"


def test_what_was_written_is_read_and_the_bytes_do_not_depend_on_the_name(path, tmp_path):
    found = read_predictions(path, "val")
    assert (found.narration_ids, found.pairs) == (FEW[:3], FEW_PAIRS)
    assert found.model == "abc" and found.trained_on["load_from"] is None
    assert torch.equal(found.log_probs, MADE.log_probs)
    write_predictions(MADE, tmp_path / "another.pt")
    assert (tmp_path / "another.pt").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c.pop("pair_head"), "not a predictions file of this version .*make it again"),
        (lambda c: c.update(format="epic100 predictions 1"), "not a .* this version .* again"),
        (lambda c: c.update(split="test"), "predictions of split 'test', expected 'val'"),
        (lambda c: c["narration_ids"].pop(), "2 narration ids for 3 rows of scores"),
    ],
)
def test_a_file_of_another_kind_or_split_is_one_line(path, change, words):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(EpicError, match=rf"val\.pt: {words}"):
        read_predictions(path, "val")
