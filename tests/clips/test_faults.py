"""What goes wrong with clips: a disk that fails, tried again first, and a worker that is killed."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import epic100.clips.dataset  # noqa: F401
from epic100.base import disk
from epic100.base.errors import EpicError
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.faults import ended_workers_are_errors
from epic100.video.index_file import load_indexes
from support.small_runs import copy_results

pytestmark = pytest.mark.slow


# Reads at the start of this file fail with EIO, as on a disk that fails.
EIO_FILE = Path("/proc/self/mem")
STEPS = [
    {"type": "OpenSegment"},
    {"type": "SampleFrames", "clip_len": 2, "frame_interval": 1, "num_clips": 1},
    {"type": "DecodeSegment", "short_side": 16},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs", "meta_keys": ("narration_id",)},
]


@pytest.fixture
def clips(lab, tmp_path, monkeypatch):
    """A dataset whose first participant's index is put in place by `index(target)`."""
    monkeypatch.setattr(disk, "WAITS", (0.3, 0.3))
    results = copy_results(lab, tmp_path)
    path = results / "scan/P01.index.npz"
    whole = path.rename(results / "scan/whole.npz")

    def index(target):
        path.unlink(missing_ok=True)
        path.symlink_to(target or whole)

    spec = {"data_root": lab.root, "index_dir": str(results / "scan"), "max_broken": 1.0}
    spec["pairs"] = str(results / "clean/pairs.tsv")
    return EpicSegmentVideoDataset(str(results / "clean/train.txt"), STEPS, **spec), index


def test_a_failure_that_passes_leaves_no_trace(clips, caplog):
    dataset, index = clips
    index(None)
    expected = dataset[0]["inputs"]
    dataset.pipeline.transforms[0].forget()
    load_indexes.cache_clear()
    index(EIO_FILE)
    threading.Timer(0.4, index, [None]).start()
    assert torch.equal(dataset[0]["inputs"], expected)
    assert dataset.broken.count == 0 and "broken clip" not in caplog.text


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (False, "failed 3 times: Input/output error; the disk is at fault"),
        (True, "not a whole frame index .*; scan its participant again"),
    ],
)
def test_a_disk_that_goes_on_failing_is_a_broken_clip_of_the_disk(clips, lab, caplog, cut, words):
    dataset, index = clips
    half = Path(dataset.ann_file).with_name("half.npz")
    half.write_bytes(Path(f"{lab.results}/scan/P01.index.npz").read_bytes()[:200])
    index(half if cut else EIO_FILE)
    dataset[0]
    assert dataset.broken.count >= 1
    assert "broken clip 1 of" in caplog.text
    assert re.search(f"P01.index.npz: .*{words}", caplog.text)


class Killed(Dataset):
    """A dataset whose worker process is killed at the second item."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        if place == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return place


@pytest.mark.parametrize("at_work", [False, True], ids=["waiting", "in the middle of a step"])
def test_a_killed_worker_is_one_line_that_says_what_to_do(at_work):
    with (
        pytest.raises(EpicError, match=r"ended from outside: .*DataLoader worker \(pid.*; give "),
        ended_workers_are_errors(),
    ):
        for _ in DataLoader(Killed(), num_workers=1):
            # The signal handler of torch may raise here.
            time.sleep(3 * at_work)


def test_another_error_of_torch_is_no_killed_worker():
    with pytest.raises(RuntimeError, match="shape"), ended_workers_are_errors():
        raise RuntimeError("shape '[2]' is invalid")
