"""Files with the name of a video that make FFmpeg open other files, or take much memory."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.clips.transforms import READERS, OpenSegment
from epic100.scan import scan_participant
from epic100.settings.data import ScanLimits
from epic100.video.index import FrameError, build_index
from epic100.video.mp4_copy import make_copy
from epic100.video.sheet import Video
from support.checkout import call, lacks
from support.damage import overwrite, place_of
from support.this_process import measured
from support.tricky_videos import encode

pytestmark = pytest.mark.slow

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


def test_clips_predictions_and_scans_open_no_socket_and_no_other_file(lures, tmp_path):
    if not shutil.which("strace"):
        lacks("strace is not installed")
    code = "import sys; from attacks.test_media import try_all; try_all(*sys.argv[1:])"
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
def test_a_header_that_claims_millions_of_frames_ends_within_the_limit_of_memory(tmp_path, count):
    path = claiming_frames(tmp_path / "v.MP4", count)
    error, _, kib_of_index = measured(build_index, path)
    assert isinstance(error, FrameError) and str(path) in str(error)
    row, _, kib_of_scan = measured(scan_in_place_of_a_video, path, tmp_path)
    assert row.status == "unreadable"
    assert max(kib_of_index, kib_of_scan) < ScanLimits().memory_mib * 2**10
