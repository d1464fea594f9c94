"""Results of older scans stay: an update of the software never decodes an archive anew."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from epic100.minikitchen.damage import zero_block
from epic100.scan import scan_participant
from epic100.video.index import build_index
from epic100.video.index_file import load_index
from epic100.video.scan_table import read_scan_table
from epic100.video.sheet import Video
from support.decoder_stand_in import SECONDS
from support.records import records_of

ARRAYS = ("steps", "key_pts", "key_dts", "time_base")


class Archive:
    """One participant with `count` videos."""

    def __init__(self, folder: Path, video: bytes, count: int):
        self.folder = folder
        self.videos = [
            Video(f"P01_{n:02d}", "P01", "train", 30000 / 1001, SECONDS) for n in range(count)
        ]
        for each in self.videos:
            each.path(folder).parent.mkdir(exist_ok=True)
            each.path(folder).write_bytes(video)
        self.table = folder / "scan/P01.tsv"
        self.index = folder / "scan/P01.index.npz"
        self.cache = folder / "scan/cache/P01"

    def scan(self, **options):
        with records_of("epic100.scan.participant") as self.lines:
            return scan_participant(self.videos, self.folder, self.table, self.index, **options)

    def make_old(self, **row) -> None:
        """Let the cache be as version 2 of the scan left it."""
        for video in self.videos:
            (kept,) = self.cache.glob(f"{video.video_id}.*.npz")
            with np.load(kept) as arrays:
                values = json.loads(str(arrays["row"])) | row
                old = {name: arrays[name] for name in ARRAYS}
            del values["judged"], values["version"]
            kept.unlink()
            path = video.path(self.folder)
            state = path.stat()
            key = (2, path.resolve(), state.st_size, state.st_mtime_ns, video.md5, video.duration)
            name = hashlib.sha256(" ".join(map(str, key)).encode()).hexdigest()[:16]
            np.savez_compressed(
                self.cache / f"{video.video_id}.{name}.npz", row=np.array(json.dumps(values)), **old
            )


@pytest.fixture
def archive(tmp_path, short_video):
    return lambda count=2: Archive(tmp_path, short_video, count)


def test_a_result_of_an_older_scan_stays_and_its_index_gets_the_packets(archive):
    lab = archive()
    first = lab.scan()
    assert {row.version for row in first} == {3}
    lab.make_old(reason="as judged before")
    rows = lab.scan()
    assert [(row.reason, row.version) for row in rows] == [("as judged before", 2)] * 2
    assert [row.version for row in read_scan_table(lab.table)] == [2, 2]
    index = load_index(lab.index, "P01_01")
    built = build_index(lab.videos[1].path(lab.folder))
    for name, value in built.table.to_arrays().items():
        assert np.array_equal(index.table.to_arrays()[name], value), name
    assert lab.lines[0].startswith("2 of them were scanned by an older version of the scan")
    assert str(lab.cache) in lab.lines[0]
    assert lab.lines[-1] == "2 videos: 2 ok; 0 of them decoded now"
    assert len(list(lab.cache.glob("*.npz"))) == 2
    assert lab.scan() == rows  # and from then on nothing is read at all


def test_the_key_frames_of_an_older_scan_stay(archive, tmp_path, sound):
    lab = archive(1)
    path = lab.videos[0].path(lab.folder)
    path.write_bytes(sound["intra_refresh"].read_bytes())
    lab.scan()
    assert len(load_index(lab.index, "P01_00").key_pts) == 1 < len(build_index(path).key_pts)
    lab.make_old()
    lab.scan()
    index = load_index(lab.index, "P01_00")
    assert len(index.key_pts) == len(index.table.key_packet) == 1


def test_an_older_result_of_a_file_that_was_replaced_is_not_used(archive):
    lab = archive(1)
    lab.scan()
    lab.make_old()
    zero_block(lab.videos[0].path(lab.folder), 0.5, 500)
    (row,) = lab.scan()
    assert (row.status, row.version) == ("damaged", 3)


def test_an_older_result_stays_where_its_packets_can_no_longer_be_read(archive):
    lab = archive(1)
    lab.scan()
    lab.make_old()
    code = (
        "from epic100.video.fork_server import arguments_of_orders\n"
        "arguments_of_orders(); print('frames 0', flush=True); raise SystemExit(1)"
    )
    (row,) = lab.scan(worker=(sys.executable, "-c", code))
    assert (row.status, row.version) == ("ok", 2)
    assert load_index(lab.index, "P01_00").table is None


def test_a_table_of_before_is_read(archive):
    lab = archive(1)
    lab.scan()
    header, row = (line.split("\t") for line in lab.table.read_text().splitlines())
    assert header[8:] == ["judged", "version"]
    lab.table.write_text("\n".join("\t".join(line[:8]) for line in (header, row)) + "\n")
    (old,) = read_scan_table(lab.table)
    assert (old.status, old.judged, old.version) == ("ok", "", 2)
