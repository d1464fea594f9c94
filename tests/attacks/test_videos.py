"""Videos that would fill the memory, or whose reads never end."""

import functools
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope

import epic100.clips.dataset  # noqa: F401
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.defects import time_limit
from epic100.scan import scan_participant
from epic100.settings.data import ScanLimits
from epic100.video.reader import FrameError, VideoReader
from epic100.video.sheet import Video
from support.tricky_videos import encode

pytestmark = pytest.mark.slow

SIZE = (4112, 4096)
VIDEO = Video("P01_01", "P01", "train", fps=30000 / 1001, duration=2 * 1001 / 30000)


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Path:
    """A video of two grey frames of more than 2^24 pixels in some kilobytes."""
    path = tmp_path_factory.mktemp("huge") / "videos/P01/P01_01.MP4"
    path.parent.mkdir(parents=True)
    width, height = SIZE
    grey = np.full((height, width, 3), 128, np.uint8)
    return encode(path, 2, SIZE, codec="mpeg4", source=[grey, grey])


@pytest.mark.parametrize(
    "limits, status, reason",
    [
        (ScanLimits(), "unreadable", "frames of 4112x4096 are larger than 16777216 pixels"),
        (ScanLimits(max_pixels=2**25), "ok", ""),
    ],
)
def test_a_video_of_frames_above_the_limit_is_unreadable_with_its_size(
    huge, tmp_path, limits, status, reason
):
    table, index = tmp_path / "P01.tsv", tmp_path / "P01.index.npz"
    (row,) = scan_participant([VIDEO], huge.parents[1], table, index, limits=limits)
    assert row.status == status and reason in row.reason


def test_a_reader_without_a_scan_rejects_huge_frames_before_it_decodes(huge):
    with pytest.raises(FrameError, match=r"P01_01\.MP4: its frames of 4112x4096 are larger"):
        VideoReader(huge)


STEPS = [
    {"type": "OpenSegment"},
    {"type": "SampleFrames", "clip_len": 2, "frame_interval": 1, "num_clips": 1},
    {"type": "DecodeSegment", "short_side": 32},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs"},
]


def test_a_clip_of_a_pipe_is_rejected_at_once_and_others_stand_in(lab, tmp_path):
    root = Path(shutil.copytree(lab.root, tmp_path / "videos"))
    (root / "P99").mkdir()
    os.mkfifo(root / "P99/P99_01.MP4")
    list_file = tmp_path / "train.txt"
    others = Path(f"{lab.results}/clean/train.txt").read_text()
    list_file.write_text(f"P99/P99_01.MP4 0 50 0 0 P99_01_0\n{others}")
    init_default_scope("mmaction")
    dataset = EpicSegmentVideoDataset(
        str(list_file),
        STEPS,
        data_root=str(root),
        index_dir=f"{lab.results}/scan",
        test_mode=True,
        max_broken=1.0,
        clip_seconds=60.0,
    )
    started = time.monotonic()
    sample = dataset[0]
    # No read waited for its limit of 60 s.
    assert time.monotonic() - started < 30
    # A clip of another segment stands in: its 2 frames have 3 colours.
    assert sample["data_samples"].broken and sample["inputs"].shape[1] == 3


def compute_for_ever() -> None:
    while True:
        pass


@pytest.mark.parametrize("work", [compute_for_ever, functools.partial(time.sleep, 60)])
def test_a_block_ends_at_its_limit_on_time_and_leaves_no_alarm(work):
    with pytest.raises(FrameError, match=r"^not read within 0\.2 s$"), time_limit(0.2):
        work()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
