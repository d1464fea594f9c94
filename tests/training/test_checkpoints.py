"""Checkpoints that a training writes and goes on from, and weights that it starts from."""

import pickle
import shutil

import pytest
import torch
from torch import nn

from epic100.base.errors import EpicError
from epic100.model.weights import fit_weights, read_weights
from epic100.training.run import (
    BEST,
    BrokenFile,
    attempts,
    begin_attempt,
    checkpoints,
    keep_as_best,
    newest_checkpoint,
    read_checkpoint,
    remove_older,
    write_checkpoint,
)
from support.this_process import largest_file

STAMP = {"clean list": "aa", "pair table": "bb", "optim_wrapper.optimizer.lr": "0.1"}


def content(number: int = 0, stamp=STAMP) -> dict:
    """The contents of a checkpoint whose weights are all `number`."""
    return {"state_dict": {"weight": torch.full((1000,), float(number))}, "stamp": stamp}


def names(folder) -> list[str]:
    """The names of the files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("broken", [b"", pickle.dumps([1], protocol=2)], ids=["empty", "a list"])
def test_a_broken_newest_checkpoint_is_set_aside_and_the_one_before_taken(tmp_path, caplog, broken):
    for number in (8, 10):
        write_checkpoint(tmp_path / f"iter_{number}.pth", content(number), keep=2)
    (tmp_path / "iter_10.pth").write_bytes(broken)
    assert newest_checkpoint(tmp_path, STAMP) == tmp_path / "iter_8.pth"
    assert names(tmp_path) == ["iter_10.broken", "iter_8.pth"]
    (line,) = caplog.messages
    assert "iter_10.pth: not a checkpoint" in line and "set aside as iter_10.broken" in line


def test_a_file_that_cannot_be_read_is_an_error_and_stays(tmp_path):
    (tmp_path / "iter_3.pth").mkdir()
    with pytest.raises(EpicError, match="iter_3.pth: cannot be read: Is a directory") as error:
        newest_checkpoint(tmp_path, STAMP)
    assert not isinstance(error.value, BrokenFile) and names(tmp_path) == ["iter_3.pth"]


@pytest.mark.parametrize(
    "stamp, words",
    [
        ({**STAMP, "pair table": "cc"}, "pair table (cc there, bb here)"),
        (
            {**STAMP, "model.backbone.type": "SlowOnly", "clean list": "dd"},
            "clean list (dd there, aa here), model.backbone.type (SlowOnly there, absent here)",
        ),
        # This stamp shares no key with `STAMP`.
        (dict.fromkeys("abcde", "0"), "clean list (absent there, aa here), "),
        (None, "it holds no stamp"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path, stamp, words):
    torch.save(content(1, stamp), tmp_path / "iter_4.pth")
    with pytest.raises(EpicError) as error:
        newest_checkpoint(tmp_path, STAMP)
    assert "iter_4.pth is a checkpoint of another run, not resumed: " in str(error.value)
    assert words in str(error.value) and names(tmp_path) == ["iter_4.pth"]


def test_the_newest_are_kept_by_number_and_the_best_beside_them(tmp_path):
    for number in (9, 10, 11):
        write_checkpoint(tmp_path / f"iter_{number}.pth", content(number), keep=2)
        if number == 9:
            keep_as_best(tmp_path / "iter_9.pth")
    assert [path.name for path in checkpoints(tmp_path)] == ["iter_11.pth", "iter_10.pth"]
    assert read_checkpoint(tmp_path / BEST)["state_dict"]["weight"][0] == 9
    keep_as_best(tmp_path / "iter_11.pth")
    assert names(tmp_path) == [BEST, "iter_10.pth", "iter_11.pth"]
    assert read_checkpoint(tmp_path / BEST)["state_dict"]["weight"][0] == 11


def test_an_attempt_takes_over_what_earlier_ones_saved_and_neither_harms_the_other(tmp_path):
    first = begin_attempt(tmp_path)
    write_checkpoint(first / "iter_2.pth", content(2), keep=2)
    keep_as_best(first / "iter_2.pth")
    write_checkpoint(first / "iter_4.pth", content(4), keep=2)
    # A save that was killed leaves such a file.
    shutil.copy(first / "iter_4.pth", first / ".iter_6.123.tmp.pth")
    second = begin_attempt(tmp_path)
    assert names(second) == [BEST, "iter_2.pth", "iter_4.pth"]
    # The third attempt begins before the second has saved anything.
    third = begin_attempt(tmp_path)
    assert names(third) == names(second)
    # The second and the third are at work at the same time.
    for attempt in (second, third):
        write_checkpoint(attempt / "iter_6.pth", content(6), keep=2)
    assert names(first) == [".iter_6.123.tmp.pth", BEST, "iter_2.pth", "iter_4.pth"]
    # The second ends first. This removes the first, which is older, but not the third.
    remove_older(second)
    assert attempts(tmp_path) == [third, second]
    assert names(third) == [BEST, "iter_4.pth", "iter_6.pth"]


def test_an_older_attempts_checkpoint_is_taken_where_the_newer_ones_are_broken(tmp_path):
    for number in (4, 6):
        write_checkpoint(begin_attempt(tmp_path) / f"iter_{number}.pth", content(number), keep=2)
    newest, first = attempts(tmp_path)
    (newest / "iter_4.pth").unlink()
    (newest / "iter_6.pth").write_bytes(b"")
    third = begin_attempt(tmp_path)
    assert newest_checkpoint(third, STAMP) == third / "iter_4.pth"


def test_a_disk_that_fills_up_in_a_save_loses_nothing(tmp_path):
    write_checkpoint(tmp_path / "iter_2.pth", content(2), keep=2)
    with (
        largest_file(2000),
        pytest.raises(
            EpicError,
            match=r"iter_4\.pth: cannot be saved: File too large; the last \S+ .*iter_2\.pth",
        ),
    ):
        write_checkpoint(tmp_path / "iter_4.pth", content(4), keep=2)
    assert names(tmp_path) == ["iter_2.pth"]
    assert read_checkpoint(tmp_path / "iter_2.pth")["state_dict"]["weight"][0] == 2


@pytest.mark.parametrize(
    "content, words",
    [
        (
            "<!DOCTYPE html>",
            "not weights that can be loaded safely .*expected a checkpoint of tensors",
        ),
        ({"epoch": 3}, "holds no tensors by name"),
        ({"state_dict": [1]}, "holds no tensors by name"),
        (
            nn.Conv2d(1, 1, 3).state_dict(),
            "weights of another model: 0 of its 2 tensors fit the 9 of ",
        ),
    ],
)
def test_what_is_no_weights_of_this_model_is_one_line(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    path.write_text(content) if isinstance(content, str) else torch.save(content, path)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 5))
    with pytest.raises(EpicError, match=rf"^{path}: {words}") as caught:
        fit_weights(path, read_weights(path), net)
    assert "\n" not in str(caught.value)
