"""Videos that make FFmpeg open other files, take much memory, or never end."""

import functools
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from epic100.base.errors import EpicError
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.defects import time_limit
from epic100.clips.transforms import READERS, OpenSegment
from epic100.scan.participant import scan_participant
from epic100.settings.data import ScanLimits
from epic100.video.build_index import build_index
from epic100.video.mp4_copy import make_copy
from epic100.video.reader import FrameError, VideoReader
from epic100.video.sheet import Video
from support.checkout import call, lacks
from support.damage import overwrite, place_of
from support.this_process import measured
from support.tricky_videos import encode

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video 50740 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
LIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet>
</Period></MPD>
"""
ADDRESS = "http://127.0.0.1:50741/a.ts"
PNG = "\x89PNG\r\n\x1a\n"
# These files hold no frames that a scan may read: most only point to other files or addresses,
# which FFmpeg would open. Each has a name and a text, in which {} stands for the path of a video
# elsewhere.
LURES = {
    "sdp.MP4": SDP,
    "session.sdp": SDP,
    "list.MP4": LIST.format(ADDRESS),
    "remote.m3u8": LIST.format(ADDRESS),
    "local.m3u8": LIST,
    "concat.MP4": "ffconcat version 1.0\nfile '{}'\n",
    "relative.MP4": "ffconcat version 1.0\nfile secret.mp4\n",
    "nested.MP4": "ffconcat version 1.0\nfile sub.m3u8\n",
    "dash.mpd": MPD,
    "dash.MP4": MPD,
    "redirect.MP4": "RTSPtextRTSP://127.0.0.1:50742/a\n",
    "reference.MP4": f"[Reference]\r\nRef1={ADDRESS}\r\n",
    "frame%03d.png": PNG,
    "*.jpg": "\xff\xd8\xff",
    "testsrc.MP4": "testsrc=size=320x240:rate=10",
    "movie.lavfi": "movie={}",
    "chapters.MP4": ";FFMETADATA1\ntitle=x\n",
    "subtitles.idx": "# VobSub index file, v7\nid: en, index: 0\n",
}


@pytest.fixture(scope="module")
def lures(tmp_path_factory) -> dict[str, Path]:
    """The files of `LURES`, in a folder with the files to which some of them refer."""
    folder = tmp_path_factory.mktemp("lures")
    elsewhere = encode(tmp_path_factory.mktemp("elsewhere") / "secret.mp4", 30)
    shutil.copy(elsewhere, folder / "secret.mp4")
    others = {"sub.m3u8": LIST, "frame000.png": PNG, "frame001.png": PNG}
    for name, text in (LURES | others).items():
        (folder / name).write_bytes(text.replace("{}", str(elsewhere)).encode("latin-1"))
    return {name: folder / name for name in LURES}


def scan_in_place_of_a_video(path: Path, folder: Path):
    """Return the row of the scan table for a file that a link puts in the place of a video."""
    video = folder / "videos/P01/P01_01.MP4"
    video.parent.mkdir(parents=True)
    video.symlink_to(path)
    (row,) = scan_participant(
        [Video("P01_01", "P01", "train", fps=30, duration=1)],
        folder / "videos",
        folder / "P01.tsv",
        folder / "P01.index.npz",
    )
    return row


@pytest.mark.parametrize("name", LURES)
def test_only_containers_that_hold_their_data_are_opened(lures, tmp_path, name):
    row = scan_in_place_of_a_video(lures[name], tmp_path)
    words = "cannot open: not a video file; expected MP4 or MOV"
    assert row.status == "unreadable"
    assert row.reason.startswith(words)
    with pytest.raises(EpicError, match=f"{re.escape(name)}: {words}"):
        build_index(lures[name])
    with pytest.raises(EpicError, match=f"{re.escape(name)}: {words}"):
        make_copy(lures[name], tmp_path / "copy.MP4")


def try_all(out: str, *lures: str) -> None:
    """Open each file like the steps of a clip, `epic100 predict` and a scan."""
    for number, lure in enumerate(lures):
        for decoder in READERS:
            with pytest.raises(EpicError):
                OpenSegment(decoder).transform({"filename": lure})
        with pytest.raises(EpicError):
            build_index(lure)
        with pytest.raises(EpicError):
            make_copy(Path(lure), Path(out, "copy.MP4"))
        scan_in_place_of_a_video(Path(lure), Path(out, str(number)))


def test_reading_videos_opens_nothing_else(lures, tmp_path):
    if not shutil.which("strace"):
        lacks("strace is not installed")
    code = "import sys; from attacks.test_videos import try_all; try_all(*sys.argv[1:])"
    strace = f"strace -f --seccomp-bpf -e trace=%network,open,openat -o {tmp_path}/calls"
    call(
        *strace.split(),
        *(sys.executable, "-c", code, tmp_path / "out"),
        *lures.values(),
        timeout=900,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    calls = (tmp_path / "calls").read_text(errors="replace")
    assert calls.count("sdp.MP4") > 2, "it was traced"
    assert not re.findall(r".*AF_INET.*", calls)
    assert not re.findall(r".*open.*(?:secret\.mp4|sub\.m3u8|frame00\d).*", calls)


def claiming_frames(path: Path, count: int) -> Path:
    """Make a video of one frame whose header claims many, each a byte of the same place."""
    encode(path, 1)
    sizes, chunks, times = (place_of(path, box) for box in ("stsz", "stsc", "stts"))
    # All samples have the size 1.
    overwrite(path, sizes + 4, 1)
    for place_of_count in (sizes + 8, chunks + 12, times + 8):
        overwrite(path, place_of_count, count)
    return path


@pytest.mark.parametrize("count", [44_000_000, 89_000_000, 2**32 - 1])
def test_a_lying_header_stays_within_memory(tmp_path, count):
    path = claiming_frames(tmp_path / "v.MP4", count)
    error, _, kib_of_index = measured(build_index, path)
    assert isinstance(error, FrameError) and str(path) in str(error)
    row, _, kib_of_scan = measured(scan_in_place_of_a_video, path, tmp_path)
    assert row.status == "unreadable"
    assert max(kib_of_index, kib_of_scan) < ScanLimits().memory_mib * 2**10


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
def test_frames_above_the_limit_make_videos_unreadable(huge, tmp_path, limits, status, reason):
    table, index = tmp_path / "P01.tsv", tmp_path / "P01.index.npz"
    (row,) = scan_participant([VIDEO], huge.parents[1], table, index, limits=limits)
    assert row.status == status and reason in row.reason


def test_readers_reject_huge_frames_before_decoding(huge):
    with pytest.raises(FrameError, match=r"P01_01\.MP4: its frames of 4112x4096 are larger"):
        VideoReader(huge)


STEPS = [
    {"type": "OpenSegment"},
    {"type": "SampleFrames", "clip_len": 2, "frame_interval": 1, "num_clips": 1},
    {"type": "DecodeSegment", "short_side": 32},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs"},
]


def test_a_pipe_is_rejected_and_another_clip_used(lab, tmp_path):
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
def test_a_time_limit_ends_blocks_and_its_alarm(work):
    with pytest.raises(FrameError, match=r"^not read within 0\.2 s$"), time_limit(0.2):
        work()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
