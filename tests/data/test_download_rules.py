"""Downloads by the rules of the workflow, from a real server."""

import hashlib
import os
import random
import re
from pathlib import Path

import pytest

from epic100.base.disk import digest
from epic100.base.text_table import write_table
from epic100.data.downloads import COLUMNS, NAMES
from epic100.data.fetch import part_path
from epic100.minikitchen import write_annotations
from epic100.video.sheet import Video
from support.archive import configure, errors, jobs, run, said
from support.failing_server import cut, status, wrong_bytes
from support.lab import write_sheet

pytestmark = pytest.mark.slow

IDS = ("P01_01", "P01_02", "P02_101", "P02_102", "P02_103")
OK = "results/videos.ok"
SCANS = ("results/scan/P01.tsv", "results/scan/P02.tsv")


class Lab:
    """A folder with a config, annotations, and a sheet of five videos, which a server has.

    Attributes:
        content: The bytes of each video, by id.
    """

    def __init__(self, folder: Path, server, film: bytes):
        self.folder, self.server = folder, server
        # Behind each video is a box of 200 kB that players skip. No two have the same bytes.
        box = (200_008).to_bytes(4) + b"free"
        self.content = {name: film + box + random.Random(name).randbytes(200_000) for name in IDS}
        self.videos = [
            Video(
                name,
                name[:3],
                "val" if name == "P02_102" else "train",
                fps=50.0,
                duration=8.0,
                url=server.put(f"{name}.MP4", content),
                md5=hashlib.md5(content).hexdigest(),
            )
            for name, content in self.content.items()
        ]
        write_sheet(self.videos, folder)
        write_annotations(self.videos, folder / "csv", seed=2)
        self.configure()

    def configure(self, download=True, annotations=()):
        """Write the config; `annotations` are more keys of this section."""
        csvs = {"train": "csv/EPIC_100_train.csv", "val": "csv/EPIC_100_validation.csv"}
        videos = {"sheet": "sheet.tsv", "root": "videos", "download": download}
        configure(self.folder, annotations=csvs | dict(annotations), videos=videos)

    def path(self, name):
        """The path of a video by its id."""
        return self.folder / "videos" / name[:3] / f"{name}.MP4"

    def put(self, *names):
        """Write the right files of some videos."""
        for name in names:
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            self.path(name).write_bytes(self.content[name])

    def requested(self):
        """The ids of the videos that the server was asked for, one for each request, sorted."""
        return sorted(Path(path).stem for path, _ in self.server.asked)


@pytest.fixture
def lab(tmp_path, server, short_video):
    return Lab(tmp_path, server, short_video)


def test_without_download_a_missing_video_is_an_error(lab):
    lab.put("P02_101")
    lab.configure(download=False)
    (line,) = errors(run(lab.folder, OK, well=False))
    assert "4 of 5 videos" in line and "P01_01 missing" in line and "download: true" in line
    assert lab.requested() == []
    # The scans are there, because the check of the videos needed their md5s.
    assert "Nothing to be done" in said(run(lab.folder, *SCANS, "-n"))
    lab.configure(download=True)
    planned = jobs(run(lab.folder, *SCANS, "-n"))
    assert (planned["download_video"], planned["scan"]) == (4, 2)


def test_a_download_that_fails_stops_no_other(lab):
    lab.put("P01_02")
    # The server answers the requests for a file with these, in this order. It also has P02_103,
    # without an error.
    lab.server.put("P01_01.MP4", lab.content["P01_01"], status(404))
    lab.server.put("P02_101.MP4", lab.content["P02_101"], cut(80_000), status(403))
    lab.server.put("P02_102.MP4", lab.content["P02_102"], wrong_bytes, wrong_bytes)
    one_by_one = ("--resources", "download=1", "--cores", "4")
    done = run(lab.folder, OK, "--keep-going", *one_by_one, well=False)
    reasons = re.findall(r"(P\w+)\.MP4: (HTTP \d+|md5)", "\n".join(sorted(errors(done))))
    assert reasons == [("P01_01", "HTTP 404"), ("P02_101", "HTTP 403"), ("P02_102", "md5")]
    assert [lab.path(name).exists() for name in IDS] == [False, True, False, False, True]
    assert lab.server.max_at_once == 1


def test_missing_bytes_come_and_replaced_videos_are_rejected(lab):
    lab.put("P01_02", "P02_103")
    part_path(lab.path("P02_101")).write_bytes(lab.content["P02_101"][:80_000])
    before = lab.path("P01_02").stat()
    done = run(lab.folder, OK, "--cores", "4")
    assert jobs(done) == {"download_video": 3, "scan": 2, "videos_ok": 1}
    assert lab.requested() == ["P01_01", "P02_101", "P02_102"]
    assert lab.server.ranges("P02_101.MP4") == ["bytes=80000-"]
    # A limit of the workflow holds for all downloads together.
    assert lab.server.max_at_once <= 2
    assert all(lab.path(name).read_bytes() == lab.content[name] for name in IDS)
    assert lab.path("P01_02").stat().st_mtime_ns == before.st_mtime_ns
    assert (lab.folder / OK).read_text() == "5 videos: 5 verified\n"
    assert not list(lab.folder.rglob("*.part*"))
    assert "Nothing to be done" in said(run(lab.folder, OK, "-n"))
    # A file that is there is no rule's output.
    assert "download_video" not in jobs(run(lab.folder, OK, "-n", "--forceall"))
    # A video is replaced, as `rsync --times` does it: the other file is older than the results.
    path = lab.path("P01_01")
    state = path.stat()
    path.write_bytes(lab.content["P01_02"])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 10**9))
    done = run(lab.folder, OK, well=False)
    assert jobs(done) == {"scan": 1, "videos_ok": 1}
    (line,) = errors(done)
    assert "1 of 5 videos" in line and "P01_01 wrong" in line
    assert not (lab.folder / OK).exists() and len(lab.requested()) == 3


def test_pinned_annotations_are_downloaded_before_segments(lab):
    official, csvs = lab.folder / "official", lab.folder / "csv"
    write_annotations(lab.videos, official, seed=2)
    for task in ("verb", "noun"):
        (official / f"EPIC_100_{task}_classes.csv").write_text("id,key\n0,take\n")
    write_table(
        lab.folder / "pins.tsv",
        COLUMNS,
        [
            (
                name,
                lab.server.put(name, (official / name).read_bytes()),
                f"git:{digest(official / name, 'git').value}",
            )
            for name in NAMES.values()
        ],
    )
    (csvs / "EPIC_100_train.csv").write_bytes((official / "EPIC_100_train.csv").read_bytes())
    (csvs / "EPIC_100_validation.csv").unlink()
    lab.configure(annotations={"download": True, "sheet": "pins.tsv"})
    done = run(lab.folder, "results/annotations.ok", "results/segments/val.txt")
    assert jobs(done) == {"annotate": 1, "annotations_ok": 1, "download_annotations": 1}
    # The train annotations are there already, with the right checksum.
    assert "/EPIC_100_train.csv" not in [path for path, _ in lab.server.asked]
    assert len((lab.folder / "results/annotations.ok").read_text().splitlines()) == 8
