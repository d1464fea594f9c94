"""A disk that fails: tried again, then a broken clip that is reported as the disk's."""

import errno
import re
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

import epic100.clips.registered  # noqa: F401
from epic100.base import disk
from epic100.base.disk import disk_failure
from epic100.base.errors import DiskError, EpicError
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.video.reader import VideoReader
from support.small_runs import copy_results

pytestmark = pytest.mark.slow

# Reading this at its start is answered with EIO by the kernel, as by a disk that fails.
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
    init_default_scope("mmaction")
    monkeypatch.setattr(disk, "WAITS", (0.3, 0.3))
    results = copy_results(lab, tmp_path)
    path = results / "scan/P01.index.npz"
    whole = path.rename(results / "scan/whole.npz")

    def index(target):
        path.unlink(missing_ok=True)
        path.symlink_to(target or whole)

    steps = [dict(STEPS[0], index_dir=str(results / "scan")), *STEPS[1:]]
    made = EpicSegmentVideoDataset(
        str(results / "clean/train.txt"), steps, str(results / "clean/pairs.tsv"), lab.root,
        max_broken=1.0,
    )  # fmt: skip
    return made, index


def test_a_failure_that_passes_leaves_no_trace(clips, caplog):
    dataset, index = clips
    index(None)
    expected = dataset[0]["inputs"]
    dataset.pipeline.transforms[0].forget()
    index(EIO_FILE)
    threading.Timer(0.4, index, [None]).start()
    assert torch.equal(dataset[0]["inputs"], expected)
    assert dataset.broken.count == 0 and "broken clip" not in caplog.text


@pytest.mark.parametrize("cut, words", [
    (False, ": Input/output error.*; no fault of the video"), (True, ""),
])  # fmt: skip
def test_a_disk_that_goes_on_failing_is_a_broken_clip_of_the_disk(clips, lab, caplog, cut, words):
    dataset, index = clips
    half = Path(dataset.ann_file).with_name("half.npz")
    half.write_bytes(Path(f"{lab.results}/scan/P01.index.npz").read_bytes()[:200])
    index(half if cut else EIO_FILE)
    dataset[0]
    assert dataset.broken.count >= 1
    assert "broken clip 1 of" in caplog.text
    assert re.search(f"the disk failed 3 times, with .*{words}", caplog.text)


def test_what_the_disk_fails_with_is_distinguished_from_what_is_wrong_with_a_file(tmp_path):
    (tmp_path / "v.MP4").symlink_to(EIO_FILE)
    with pytest.raises(EpicError) as caught:
        VideoReader(tmp_path / "v.MP4")
    assert disk_failure(caught.value)
    (tmp_path / "text.MP4").write_text("no video")
    with pytest.raises(Exception) as damaged:
        VideoReader(tmp_path / "text.MP4")
    assert disk_failure(damaged.value) is None
    assert disk_failure(DiskError("gone")) and disk_failure(zipfile.BadZipFile("cut"))
    assert disk_failure(OSError(errno.ENOENT, "gone")) is None
