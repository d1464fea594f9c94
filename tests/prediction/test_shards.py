import os

import torch

from epic100.base.atomic import atomic_path
from epic100.prediction.shards import Shards
from epic100.timeline.clips import forget_rows

VIDEO, STAMP = "P01/P01_01.MP4", "as it is now"


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
