"""Checkpoints that a training writes and resumes, and weights that it starts from."""

import pickle
import shutil

import pytest
import torch
from torch import nn

from epic100.base.errors import EpicError
from epic100.model.weights import fit_weights, read_weights
from epic100.training.run import (
    BEST,
    attempts,
    begin_attempt,
    checkpoints,
    keep_as_best,
    newest_checkpoint,
    read_checkpoint,
    remove_older,
    write_checkpoint,
)
from support.crafted import saved
from support.this_process import largest_file

STAMP = {"clean list": "aa", "pair table": "bb", "optim_wrapper.optimizer.lr": "0.1"}


def content(number: int = 0, stamp=STAMP) -> dict:
    """Make the contents of a checkpoint whose weights are all `number`."""
    return {"state_dict": {"weight": torch.full((1000,), float(number))}, "stamp": stamp}


def save(folder, *numbers: int) -> None:
    """Save `iter_{number}.pth` of each number, in this order; the newest two are kept."""
    for number in numbers:
        write_checkpoint(folder / f"iter_{number}.pth", content(number), keep=2)


def weight_in(path) -> float:
    """Read the number that all weights of a checkpoint are."""
    return float(read_checkpoint(path)["state_dict"]["weight"][0])


def names(folder) -> list[str]:
    """List the names of the files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("broken", [b"", pickle.dumps([1], protocol=2)], ids=["empty", "a list"])
def test_a_broken_checkpoint_is_renamed_and_the_one_before_is_resumed(tmp_path, caplog, broken):
    save(tmp_path, 8, 10)
    (tmp_path / "iter_10.pth").write_bytes(broken)
    assert newest_checkpoint(tmp_path, STAMP) == tmp_path / "iter_8.pth"
    assert names(tmp_path) == ["iter_10.broken", "iter_8.pth"]
    (line,) = caplog.messages
    assert "iter_10.pth: not a checkpoint" in line and "set aside as iter_10.broken" in line


def test_a_checkpoint_that_cannot_be_read_is_an_error_and_is_not_renamed(tmp_path):
    (tmp_path / "iter_3.pth").mkdir()
    with pytest.raises(EpicError, match="iter_3.pth: cannot be read: Is a directory"):
        newest_checkpoint(tmp_path, STAMP)
    assert names(tmp_path) == ["iter_3.pth"]


@pytest.mark.parametrize(
    "stamp, words",
    [
        pytest.param(
            STAMP | {"pair table": "cc"}, "pair table (cc there, bb here)", id="another value"
        ),
        pytest.param(
            STAMP | {"model.backbone.type": "SlowOnly", "clean list": "dd"},
            "clean list (dd there, aa here), model.backbone.type (SlowOnly there, absent here)",
            id="another key",
        ),
        pytest.param(
            dict.fromkeys("abcde", "0"), "clean list (absent there, aa here), ", id="other keys"
        ),
        pytest.param(None, "it holds no stamp", id="no stamp"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_differences(tmp_path, stamp, words):
    torch.save(content(1, stamp), tmp_path / "iter_4.pth")
    with pytest.raises(EpicError) as error:
        newest_checkpoint(tmp_path, STAMP)
    assert "iter_4.pth is a checkpoint of another run, not resumed: " in str(error.value)
    assert words in str(error.value) and names(tmp_path) == ["iter_4.pth"]


def test_the_newest_checkpoints_are_kept_by_number_and_the_best_beside_them(tmp_path):
    save(tmp_path, 9)
    keep_as_best(tmp_path / "iter_9.pth")
    # Sorted as text, iter_9.pth would be the newest.
    save(tmp_path, 10, 11)
    assert [path.name for path in checkpoints(tmp_path)] == ["iter_11.pth", "iter_10.pth"]
    assert weight_in(tmp_path / BEST) == 9
    keep_as_best(tmp_path / "iter_11.pth")
    assert names(tmp_path) == [BEST, "iter_10.pth", "iter_11.pth"]
    assert weight_in(tmp_path / BEST) == 11


def test_an_attempt_gets_the_checkpoints_of_earlier_ones_and_leaves_theirs_alone(tmp_path):
    first = begin_attempt(tmp_path)
    save(first, 2, 4)
    keep_as_best(first / "iter_2.pth")
    # A save that was killed leaves such a file.
    shutil.copy(first / "iter_4.pth", first / ".iter_6.123.tmp.pth")
    # The third attempt begins before the second has saved anything. Then both are at work.
    second, third = begin_attempt(tmp_path), begin_attempt(tmp_path)
    assert names(second) == names(third) == [BEST, "iter_2.pth", "iter_4.pth"]
    save(second, 6)
    save(third, 6)
    assert names(first) == [".iter_6.123.tmp.pth", BEST, "iter_2.pth", "iter_4.pth"]
    # The second ends first. This removes the first, which is older, but not the third.
    remove_older(second)
    assert attempts(tmp_path) == [third, second]
    assert names(third) == [BEST, "iter_4.pth", "iter_6.pth"]


def test_a_checkpoint_of_an_older_attempt_is_resumed_if_the_newer_ones_are_broken(tmp_path):
    first = begin_attempt(tmp_path)
    save(first, 4)
    second = begin_attempt(tmp_path)
    save(second, 6)
    # The second attempt has a link to iter_4.pth as well.
    (second / "iter_4.pth").unlink()
    (second / "iter_6.pth").write_bytes(b"")
    third = begin_attempt(tmp_path)
    assert newest_checkpoint(third, STAMP) == third / "iter_4.pth"


def test_a_save_that_fills_the_disk_loses_no_earlier_checkpoint(tmp_path):
    save(tmp_path, 2)
    words = r"iter_4\.pth: cannot be saved: File too large; the last \S+ .*iter_2\.pth"
    # The 1,000 weights alone have 4,000 bytes.
    with largest_file(2000), pytest.raises(EpicError, match=words):
        save(tmp_path, 4)
    assert names(tmp_path) == ["iter_2.pth"] and weight_in(tmp_path / "iter_2.pth") == 2


@pytest.mark.parametrize(
    "content, words",
    [
        pytest.param(
            b"<!DOCTYPE html>",
            "not weights that can be loaded safely .*expected a checkpoint of tensors",
            id="a web page",
        ),
        pytest.param(saved({"epoch": 3}), "holds no tensors by name", id="no weights"),
        pytest.param(
            saved({"state_dict": [1]}), "holds no tensors by name", id="a list as weights"
        ),
        pytest.param(
            saved(nn.Conv2d(1, 1, 3).state_dict()),
            "weights of another model: 0 of its 2 tensors fit the 9 of ",
            id="another model",
        ),
    ],
)
def test_start_weights_of_no_model_or_another_one_are_refused(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    # This network has 2 + 5 + 2 tensors.
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 5))
    with pytest.raises(EpicError, match=rf"^{path}: {words}") as caught:
        fit_weights(path, read_weights(path), network)
    assert "\n" not in str(caught.value)
