import os

import pytest
import torch

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.prediction.shards import Shards
from epic100.timeline.clips import forget_rows

VIDEO, STAMP = "P01/P01_01.MP4", "as it is now"


@pytest.fixture
def shards(tmp_path):
    made = Shards(tmp_path / "val.pt", "run")
    made.write(VIDEO, STAMP, torch.linspace(-9, 0, 30).reshape(3, 10))
    return made


def test_a_shard_is_read_under_its_stamp_alone(shards):
    assert shards.read(VIDEO, STAMP).shape == (3, 10)
    assert shards.read(VIDEO, "another") is None and shards.read("P01/P01_02.MP4", STAMP) is None


def test_a_shard_with_a_flipped_bit_is_made_again(shards, caplog):
    """torch.load alone gave another score for it, off by whole units."""
    path = shards.path(VIDEO)
    whole = bytearray(path.read_bytes())
    whole[whole.index(shards.read(VIDEO, STAMP).numpy().tobytes()) + 2] ^= 64
    path.write_bytes(whole)
    assert shards.read(VIDEO, STAMP) is None
    (line,) = caplog.messages
    assert line.startswith(f"{path}: not a shard (the checksum of")
    assert line.endswith("that video is predicted again")


def test_a_file_of_another_kind_in_its_place_is_not_used(shards):
    torch.save([1, 2], shards.path(VIDEO))
    assert shards.read(VIDEO, STAMP) is None
    os.unlink(shards.path(VIDEO))
    os.symlink("/proc/self/mem", shards.path(VIDEO))  # opens, but cannot be read
    with pytest.raises(EpicError, match="the disk is at fault"):
        shards.read(VIDEO, STAMP)


def test_the_shards_of_the_last_three_predictions_are_kept(tmp_path):
    for number, run in enumerate(["first", "second", "third", "first", "last"]):
        made = Shards(tmp_path / "val.pt", run)
        made.keep_newest()
        if made.read(VIDEO, STAMP) is None:
            made.write(VIDEO, STAMP, torch.zeros(1, 2))
        os.utime(made.folder / run, (number, number))
    assert sorted(path.name for path in made.folder.iterdir()) == ["first", "last", "third"]


def test_shards_are_forgotten_but_for_one_that_another_attempt_is_writing(tmp_path):
    made, out = Shards(tmp_path / "v.pt", "run"), tmp_path / "v.pt"
    made.write("first", STAMP, torch.zeros(1, 2))
    with atomic_path(made.path("second")) as temporary:
        forget_rows(out)
        assert list(made.folder.rglob("*.pt")) == [temporary]
    assert list(made.folder.rglob("*.pt")) == [made.path("second")]
    forget_rows(out)
    assert not made.folder.exists()
