import hashlib
import os
from dataclasses import replace

import pytest

from epic100.base import disk
from epic100.base.disk import digest
from epic100.base.errors import DiskError, EpicError
from epic100.download.fetch import FetchSettings
from epic100.download.part import claim
from epic100.download.videos import (
    download_video,
    md5_of,
    read_verdicts,
    verify_videos,
    write_videos_ok,
)
from epic100.video.sheet import Video

CONTENT = bytes(range(256)) * 4000
HASTY = FetchSettings(tries=4, stall_seconds=0.5, pause_seconds=0.01)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def bring(server, tmp_path):
    """Downloads a video below the test's folder."""

    def bring(video):
        receipts = tmp_path / "receipts"
        download_video(video, tmp_path, receipts, private_hosts=["127.0.0.1"], settings=HASTY)
        assert video.path(tmp_path).read_bytes() == CONTENT
        assert md5_of(video, tmp_path, tmp_path / "receipts") == MD5

    return bring


def video(server, name="P01_01", md5=MD5):
    return Video(name, "P01", "train", 50.0, 60.0, server.put(f"{name}.MP4", CONTENT), md5)


def test_a_downloaded_video_has_its_receipt_and_is_never_written_over(
    server, tmp_path, caplog, bring
):
    wanted = video(server)
    bring(wanted)
    assert "P01_01: 1 MB in" in caplog.text and "md5 as the sheet says" in caplog.text
    wanted.path(tmp_path).write_bytes(b"of the lab")
    with pytest.raises(EpicError, match=r"P01_01\.MP4: there already; .*writes over nothing"):
        bring(wanted)
    assert wanted.path(tmp_path).read_bytes() == b"of the lab" and len(server.asked) == 1
    bring(video(server, "P01_02", md5=""))
    assert "the sheet has no md5 to hold it to" in caplog.text


def test_the_log_says_how_far_a_file_is_also_one_that_is_gone_on_with(
    server, tmp_path, caplog, bring, monkeypatch
):
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", 0.0)
    wanted = video(server)
    with claim(wanted.path(tmp_path)) as part:
        part.promise(len(CONTENT), None)
        part.write(CONTENT[: len(CONTENT) // 2])
    bring(wanted)
    assert any(line.startswith("P01_01: 1/1 MB, ") and " left" in line for line in caplog.messages)


BOTH, ONE = ["verified", "verified"], ["verified", "wrong"]


class Archive:
    """Files of P01, their sheet, and what verifying them says."""

    def __init__(self, folder, caplog):
        self.caplog = caplog
        self.root, self.receipts = folder / "videos", folder / "receipts"
        self.table, self.ok = folder / "results/P01.tsv", folder / "videos.ok"
        (self.root / "P01").mkdir(parents=True)
        self.videos = []
        for i in (1, 2):
            md5 = hashlib.md5(self.content(i)).hexdigest()
            self.videos.append(Video(f"P01_0{i}", "P01", "train", 50.0, 9.0, md5=md5))
            self.path(i).write_bytes(self.content(i))

    @staticmethod
    def content(i):
        return bytes([i]) * 2_500_000

    def path(self, i):
        return self.videos[i - 1].path(self.root)

    def verify(self):
        """(states by video, how many files were read)."""
        rows = verify_videos(self.videos, self.root, self.table, self.receipts, threads=2)
        assert read_verdicts(self.table) == rows
        said = self.caplog.messages[-1]
        return [row.status for row in rows], int(said.split("; ")[1].split(" ")[0])


@pytest.fixture
def archive(tmp_path, caplog):
    return Archive(tmp_path, caplog)


def test_files_are_read_once_and_a_changed_or_moved_one_again(archive):
    assert archive.verify() == (BOTH, 2)
    assert archive.verify() == (BOTH, 0)
    written = archive.path(2).stat().st_mtime
    for seconds, content, states in ((1, 2, BOTH), (2, 3, ONE), (-9, 4, ONE)):  # newer, older
        archive.path(2).write_bytes(archive.content(content))
        os.utime(archive.path(2), (written + seconds,) * 2)
        assert archive.verify() == (states, 1)
        assert archive.verify() == (states, 0)
    archive.root = archive.root.rename(archive.root.with_name("elsewhere"))
    assert archive.verify() == (ONE, 2)


def test_a_file_that_is_written_while_it_is_read_is_not_believed(archive, monkeypatch):
    def slow(path, kind, watch):
        found = digest(path, kind, watch)
        path.write_bytes(Archive.content(1))
        return found

    monkeypatch.setattr("epic100.download.videos.digest", slow)
    archive.videos.pop()
    assert archive.verify() == (["unreadable"], 1)
    monkeypatch.undo()
    assert archive.verify() == (["verified"], 1)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
@pytest.mark.parametrize("of, words, read", [
    ("video", r"P01\.tsv: not written: .* 1 videos: .*P01_01\.MP4: read", 1),
    ("receipt", r"P01_01\.json: reading failed 2 times", 0),
])  # fmt: skip
def test_a_failing_disk_is_no_row_but_an_error_once_all_others_are_read(
    archive, tmp_path, monkeypatch, of, words, read
):
    monkeypatch.setattr(disk, "WAITS", (0.0,))
    path = archive.path(1)
    if of == "receipt":
        archive.verify()
        archive.table.unlink()
        path = archive.receipts / "P01_01.json"
    path.rename(tmp_path / "kept")
    path.symlink_to("/proc/self/mem")  # nothing is mapped at its start: EIO
    with pytest.raises(DiskError, match=words):
        archive.verify()
    assert not archive.table.exists()
    (tmp_path / "kept").rename(path)
    assert archive.verify() == (BOTH, read)


def test_what_cannot_be_held_to_an_md5_is_distinguished(archive):
    first, second = archive.videos
    others = [replace(second, video_id=f"P01_0{i}") for i in (3, 4, 5)]
    archive.videos = [first, replace(second, md5=""), *others]
    archive.path(3).mkdir()
    archive.path(4).symlink_to("nowhere")
    states, read = archive.verify()
    assert states == ["verified", "unverified", "unreadable", "unreadable", "missing"]
    assert read == 1
    reasons = [row.reason for row in read_verdicts(archive.table)]
    assert reasons[1] == "the sheet has no md5" and reasons[4] == f"no file {archive.path(5)}"


def test_one_sentence_names_what_lacks_and_a_table_that_was_edited(archive):
    archive.path(1).unlink()
    archive.path(2).write_bytes(b"half")
    archive.verify()
    with pytest.raises(EpicError, match="2 of 2 videos .*: P01_01 missing, P01_02 wrong; all"):
        write_videos_ok([str(archive.table)], archive.ok)
    assert not archive.ok.exists()
    archive.table.write_text(archive.table.read_text().replace("wrong\t4", "wrong\tx"))
    with pytest.raises(EpicError, match=r"P01\.tsv: line 3: size is 'x'; expected the table"):
        write_videos_ok([str(archive.table)], archive.ok)
