"""Errors while clips are read: a failing disk, an unreadable index, a killed worker."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from epic100.base import disk
from epic100.base.errors import EpicError
from epic100.base.stop import ended_workers_are_errors
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.video.index import load_indexes
from support.small_runs import copy_results

pytestmark = pytest.mark.slow


# Reads at the start of this file fail with EIO, as on a failing disk.
EIO_FILE = Path("/proc/self/mem")


@pytest.fixture
def clips(lab, tmp_path, monkeypatch):
    """A dataset, and a function that puts a link to a file in the place of P01's frame index."""
    monkeypatch.setattr(disk, "WAITS", (0.3, 0.3))
    results = copy_results(lab, tmp_path)
    path = results / "scan/P01.index.npz"
    path.unlink()

    def link_index(target):
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    pipeline = [
        {"type": "OpenSegment"},
        {"type": "SampleFrames", "clip_len": 2, "frame_interval": 1, "num_clips": 1},
        {"type": "DecodeSegment", "short_side": 16},
        {"type": "FormatShape", "input_format": "NCTHW"},
        {"type": "PackActionInputs", "meta_keys": ("narration_id",)},
    ]
    dataset = EpicSegmentVideoDataset(
        str(results / "clean/train.txt"),
        pipeline,
        pairs=str(results / "clean/pairs.tsv"),
        data_root=lab.root,
        index_dir=str(results / "scan"),
        max_broken=1.0,
    )
    return dataset, link_index


def test_a_disk_that_recovers_gives_the_same_clip(clips, lab, caplog):
    dataset, link_index = clips
    intact = Path(lab.results, "scan/P01.index.npz")
    link_index(intact)
    expected = dataset[0]["inputs"]
    # Nothing that was read before is left in memory.
    dataset.pipeline.transforms[0].forget()
    load_indexes.cache_clear()
    link_index(EIO_FILE)
    # The tries are at 0, 0.3 and 0.6 s, so the third one succeeds.
    threading.Timer(0.4, link_index, [intact]).start()
    assert torch.equal(dataset[0]["inputs"], expected)
    assert dataset.broken.by_segment.sum() == 0 and "broken clip" not in caplog.text


@pytest.mark.parametrize(
    ("is_cut", "words"),
    [
        (False, "failed 3 times: Input/output error; the disk is at fault"),
        (True, "not a complete frame index .*; scan its participant again"),
    ],
    ids=["failing disk", "cut file"],
)
def test_an_index_that_stays_unreadable_makes_broken_clips(
    clips, lab, tmp_path, caplog, is_cut, words
):
    dataset, link_index = clips
    cut_file = tmp_path / "cut.npz"
    cut_file.write_bytes(Path(f"{lab.results}/scan/P01.index.npz").read_bytes()[:200])
    link_index(cut_file if is_cut else EIO_FILE)
    dataset[0]
    assert dataset.broken.by_segment.sum() >= 1
    assert "broken clip 1 of" in caplog.text
    assert re.search(f"P01.index.npz: .*{words}", caplog.text)


class KilledDataset(Dataset):
    """A dataset of 4 numbers whose worker process is killed at the second one."""

    def __len__(self):
        return 4

    def __getitem__(self, number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


# A killed worker is noticed while torch waits for a batch, or by its signal handler, which
# interrupts the training step.
@pytest.mark.parametrize("step_seconds", [0, 3], ids=["while waiting", "during a step"])
def test_a_killed_worker_s_error_says_a_remedy(step_seconds):
    with (
        pytest.raises(EpicError, match=r"ended from outside: .*DataLoader worker \(pid.*; give "),
        ended_workers_are_errors(),
    ):
        for _ in DataLoader(KilledDataset(), num_workers=1):
            time.sleep(step_seconds)


def test_other_errors_of_torch_pass_unchanged():
    with pytest.raises(RuntimeError, match="shape"), ended_workers_are_errors():
        raise RuntimeError("shape '[2]' is invalid")
