"""Downloads on the real DAG, from a real server."""

import hashlib
import os
import random
from pathlib import Path

import pytest

from epic100.base.disk import digest
from epic100.base.text_table import write_table
from epic100.download.annotations import COLUMNS, NAMES
from epic100.minikitchen import write_annotations
from epic100.video.sheet import Video
from support.archive import configure, errors, jobs, run, said
from support.fault_server import cut, status, wrong_bytes
from support.lab import write_sheet

pytestmark = pytest.mark.slow

SPLITS = {"P02_102": "val"}
IDS = ("P01_01", "P01_02", "P02_101", "P02_102", "P02_103")
OK = "results/videos.ok"


def padded(film: bytes, seed: int) -> bytes:
    """A film, and behind it a box of 200 kB that players skip; no two have the same size."""
    rest = random.Random(seed).randbytes(200_000 + seed)
    return film + (len(rest) + 8).to_bytes(4) + b"free" + rest


class Lab:
    """A folder with a sheet whose videos a server has, and a config."""

    def __init__(self, folder: Path, server, film: bytes):
        self.folder, self.server = folder, server
        self.content = {name: padded(film, number) for number, name in enumerate(IDS)}
        self.videos = [
            Video(
                name,
                name[:3],
                SPLITS.get(name, "train"),
                50.0,
                8.0,
                server.put(f"{name}.MP4", content),
                hashlib.md5(content).hexdigest(),
            )
            for name, content in self.content.items()
        ]
        write_sheet(self.videos, folder)
        write_annotations(self.videos, folder / "csv", seed=2)
        self.configure()

    def configure(self, download=True, annotations=()):
        csvs = {"train": "csv/EPIC_100_train.csv", "val": "csv/EPIC_100_validation.csv"}
        videos = {
            "sheet": "sheet.tsv",
            "root": "videos",
            "download": download,
            "private_hosts": ["127.0.0.1"],
        }
        configure(self.folder, annotations=csvs | dict(annotations), videos=videos)

    def path(self, name):
        return self.folder / "videos" / name[:3] / f"{name}.MP4"

    def put(self, name, content):
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_bytes(content)

    def have(self):
        return {name for name in IDS if self.path(name).exists()}

    def asked(self):
        """Names of the videos that the server was asked for since the last look."""
        names = [path.removeprefix("/").removesuffix(".MP4") for path, _ in self.server.asked]
        self.server.asked.clear()
        return sorted(names)


@pytest.fixture
def lab(tmp_path, server, short_video):
    return Lab(tmp_path, server, short_video)


def test_without_download_nothing_is_asked_for_and_a_missing_video_is_a_row(lab):
    lab.put("P02_101", lab.content["P02_101"])
    lab.configure(download=False)
    (line,) = errors(run(lab.folder, OK, well=False))
    assert "4 of 5 videos" in line and "P01_01 missing" in line and "download: true" in line
    assert lab.asked() == [] and lab.have() == {"P02_101"}
    scans = [f"results/scan/{name}.tsv" for name in ("P01", "P02")]
    # The scans are there, because the check of the videos needed their MD5s.
    assert "Nothing to be done" in said(run(lab.folder, *scans, "-n"))
    lab.configure()
    planned = jobs(run(lab.folder, *scans, "-n"))
    assert planned["download_video"] == 4 and planned["scan"] == 2


def test_a_refused_video_stops_no_other_and_nothing_is_fetched_or_read_twice(lab):
    lab.put("P01_02", lab.content["P01_02"])
    adopted = lab.path("P01_02").stat()
    lab.server.put("P01_01.MP4", lab.content["P01_01"], status(404))
    lab.server.put("P02_101.MP4", lab.content["P02_101"], cut(80_000), status(403))
    lab.server.put("P02_102.MP4", lab.content["P02_102"], wrong_bytes, wrong_bytes)
    done = run(
        lab.folder, OK, "--keep-going", "--resources", "download=1", "--cores", "4", well=False
    )
    first, second, third = sorted(errors(done))
    assert "P01_01.MP4: HTTP 404" in first
    assert "P02_101.MP4: HTTP 403" in second
    assert "P02_102.MP4: md5" in third and "nothing was kept" in third
    assert lab.have() == {"P01_02", "P02_103"} and lab.server.most_at_once == 1
    lab.asked()

    done = run(lab.folder, OK, "--cores", "4")
    assert jobs(done) == {"download_video": 3, "scan": 2, "videos_ok": 1}
    assert lab.server.ranges("P02_101.MP4") == ["bytes=80000-"]
    assert lab.asked() == ["P01_01", "P02_101", "P02_102"] and lab.server.most_at_once <= 2
    assert all(lab.path(name).read_bytes() == lab.content[name] for name in IDS)
    assert lab.path("P01_02").stat().st_mtime_ns == adopted.st_mtime_ns
    assert (lab.folder / OK).read_text() == "5 videos: 5 verified\n"
    assert not list(lab.folder.rglob("*.part*"))
    for download in (False, True):
        lab.configure(download)
        assert "Nothing to be done" in said(run(lab.folder, OK, "-n"))
    # A file that is there is no rule's output.
    assert "download_video" not in jobs(run(lab.folder, OK, "-n", "--forceall"))

    state = lab.path("P01_01").stat()
    # `rsync --times` does this too: the new file is no newer than the old one.
    lab.put("P01_01", lab.content["P01_02"])
    os.utime(lab.path("P01_01"), ns=(state.st_atime_ns, state.st_mtime_ns - 10**9))
    done = run(lab.folder, OK, well=False)
    assert jobs(done) == {"scan": 1, "videos_ok": 1}
    (line,) = errors(done)
    assert "1 of 5 videos" in line and "P01_01 wrong" in line
    assert not (lab.folder / OK).exists() and lab.have() == set(IDS) and lab.asked() == []
    # The first file is a wrong one, the second was whole.
    for name in ("P01_01", "P02_103"):
        lab.path(name).unlink()
    assert jobs(run(lab.folder, OK)) == {"download_video": 2, "scan": 2, "videos_ok": 1}
    assert lab.asked() == ["P01_01", "P02_103"]


def test_annotations_come_at_their_pinned_version_and_feed_the_dag(lab):
    there, csvs = lab.folder / "there", lab.folder / "csv"
    write_annotations(lab.videos, there, seed=2)
    for task in ("verb", "noun"):
        (there / f"EPIC_100_{task}_classes.csv").write_text("id,key\n0,take\n")
    write_table(
        lab.folder / "pins.tsv",
        COLUMNS,
        [
            (
                name,
                lab.server.put(name, (there / name).read_bytes()),
                f"git:{digest(there / name, 'git').value}",
            )
            for name in NAMES.values()
        ],
    )
    (csvs / "EPIC_100_train.csv").write_bytes((there / "EPIC_100_train.csv").read_bytes())
    (csvs / "EPIC_100_validation.csv").unlink()
    lab.configure(annotations={"download": True, "sheet": "pins.tsv"})
    done = run(lab.folder, "results/annotations.ok", "results/segments/val.txt")
    assert jobs(done) == {"annotate": 1, "annotations_ok": 1, "download_annotations": 1}
    assert "/EPIC_100_train.csv" not in [path for path, _ in lab.server.asked]
    assert len((lab.folder / "results/annotations.ok").read_text().splitlines()) == 8
    for name in ("tail_verbs", "verb_classes"):
        assert (csvs / f"EPIC_100_{name}.csv").exists()
