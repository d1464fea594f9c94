"""Videos that would fill the memory or never come."""

import functools
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope

import epic100.clips.dataset  # noqa: F401
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.faults import time_limit
from epic100.scan import scan_participant
from epic100.settings import ScanLimits
from epic100.video.reader import FrameError, VideoReader
from epic100.video.sheet import Video
from support.tricky_videos import encode

pytestmark = pytest.mark.slow

SIZE = (4112, 4096)
FILM = Video("P01_01", "P01", "train", 30000 / 1001, 2 * 1001 / 30000)
STEPS = [
    {"type": "OpenSegment"},
    {"type": "SampleFrames", "clip_len": 2, "frame_interval": 1, "num_clips": 1},
    {"type": "DecodeSegment", "short_side": 32},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs"},
]


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Path:
    """Two grey pictures of more than 2^24 pixels in some kilobytes."""
    path = tmp_path_factory.mktemp("huge") / "videos/P01/P01_01.MP4"
    path.parent.mkdir(parents=True)
    encode(path, 2, SIZE, codec="mpeg4", source=[np.full((*SIZE[::-1], 3), 128, np.uint8)] * 2)
    assert path.stat().st_size < 2**19
    return path


@pytest.mark.parametrize(
    "limits, status, reason",
    [
        (ScanLimits(), "unreadable", "pictures of 4112x4096 are larger than 16777216 pixels"),
        (ScanLimits(max_pixels=2**25), "ok", ""),
    ],
)
def test_a_video_of_pictures_above_the_limit_is_unreadable_with_its_size(
    huge, tmp_path, limits, status, reason
):
    (row,) = scan_participant(
        [FILM], huge.parents[1], tmp_path / "P01.tsv", tmp_path / "P01.index.npz", limits=limits
    )
    assert row.status == status and reason in row.reason


def test_a_reader_without_a_scan_refuses_huge_pictures_before_it_decodes(huge):
    with pytest.raises(FrameError, match=r"P01_01\.MP4: its pictures of 4112x4096 are larger"):
        VideoReader(huge)


def test_a_clip_of_a_pipe_is_refused_at_once_and_others_stand_in(lab, tmp_path):
    lines = Path(f"{lab.results}/clean/train.txt").read_text().splitlines()
    root = tmp_path / "videos"
    (root / "P99").mkdir(parents=True)
    for folder in Path(lab.root).iterdir():
        (root / folder.name).symlink_to(folder)
    os.mkfifo(root / "P99/P99_01.MP4")
    (tmp_path / "train.txt").write_text(
        "\n".join(["P99/P99_01.MP4 0 50 0 0 P99_01_0", *lines]) + "\n"
    )
    init_default_scope("mmaction")
    dataset = EpicSegmentVideoDataset(
        str(tmp_path / "train.txt"),
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
    assert sample["data_samples"].broken and sample["inputs"].shape[1] == 3


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("work", [spin, functools.partial(time.sleep, 60)])
def test_a_block_that_spins_or_waits_ends_at_its_limit_and_leaves_no_alarm(work):
    with pytest.raises(FrameError, match=r"^not read within 0\.2 s$"), time_limit(0.2):
        work()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
