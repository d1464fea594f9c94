import hashlib
import os
import time

import pytest

from epic100.base.errors import DiskError, EpicError
from epic100.download.checksum import digest
from epic100.download.receipts import Receipts
from epic100.download.verify import read_verdicts, verify_videos, write_videos_ok
from epic100.video import watched_file
from epic100.video.sheet import Video


def md5(content):
    return hashlib.md5(content).hexdigest()


class Archive:
    """Files of P01, their sheet, and what verifying them says."""

    def __init__(self, folder):
        self.root, self.receipts = folder / "videos", folder / "receipts"
        self.table = folder / "results/P01.tsv"
        self.videos = [
            Video(f"P01_0{i}", "P01", "train", 50.0, 9.0, md5=md5(self.content(i))) for i in (1, 2)
        ]
        for i, video in enumerate(self.videos, 1):
            video.path(self.root).parent.mkdir(parents=True, exist_ok=True)
            video.path(self.root).write_bytes(self.content(i))

    @staticmethod
    def content(i):
        return bytes([i]) * 2_500_000

    def path(self, i):
        return self.videos[i - 1].path(self.root)

    def verify(self, caplog):
        """(states by video, how many files were read)."""
        rows = verify_videos(self.videos, self.root, self.table, self.receipts, threads=2)
        assert read_verdicts(self.table) == rows
        said = caplog.messages[-1]
        return [row.status for row in rows], int(said.split("; ")[1].split(" ")[0])

    def edition(self):
        return Receipts(self.receipts).edition(self.videos, self.root)


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def test_files_are_read_once_and_a_changed_one_again(archive, caplog):
    assert archive.verify(caplog) == (["verified", "verified"], 2)
    assert archive.verify(caplog) == (["verified", "verified"], 0)
    time.sleep(0.01)
    archive.path(2).write_bytes(archive.content(2))
    assert archive.verify(caplog) == (["verified", "verified"], 1)
    archive.path(2).write_bytes(archive.content(3))
    assert archive.verify(caplog) == (["verified", "wrong"], 1)
    assert archive.verify(caplog) == (["verified", "wrong"], 0)


def test_a_file_of_the_same_size_and_an_older_time_is_another_file(archive, caplog):
    archive.verify(caplog)
    before = archive.path(1).stat()
    archive.path(1).write_bytes(archive.content(7))
    os.utime(archive.path(1), ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))
    assert archive.verify(caplog) == (["wrong", "verified"], 1)


def test_a_file_that_is_written_while_it_is_read_is_not_believed(archive, caplog, monkeypatch):
    def slow(path, kind, watch):
        found = digest(path, kind, watch)
        path.write_bytes(Archive.content(1))
        return found

    monkeypatch.setattr("epic100.download.verify.digest", slow)
    archive.videos.pop()
    assert archive.verify(caplog) == (["unreadable"], 1)
    monkeypatch.undo()
    assert archive.verify(caplog) == (["verified"], 1)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
def test_a_failing_disk_is_no_row_but_an_error_once_all_others_are_read(
    archive, caplog, monkeypatch
):
    monkeypatch.setattr(watched_file, "RETRY_SECONDS", (0.0,))
    content = archive.path(1).read_bytes()
    archive.path(1).unlink()
    archive.path(1).symlink_to("/proc/self/mem")  # nothing is mapped at its start: EIO
    with pytest.raises(DiskError, match=r"P01\.tsv: not written: .* 1 videos: .*P01_01\.MP4: read"):
        archive.verify(caplog)
    assert not archive.table.exists()
    archive.path(1).unlink()
    archive.path(1).write_bytes(content)
    assert archive.verify(caplog) == (["verified", "verified"], 1)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
def test_a_receipt_that_the_disk_refuses_makes_no_row_and_is_read_again(
    archive, caplog, monkeypatch, tmp_path
):
    monkeypatch.setattr(watched_file, "RETRY_SECONDS", (0.0,))
    archive.verify(caplog)
    receipt = archive.receipts / "P01_01.json"
    receipt.rename(tmp_path / "kept")
    receipt.symlink_to("/proc/self/mem")
    archive.table.unlink()
    with pytest.raises(DiskError, match=r"P01_01\.json: reading failed 2 times"):
        archive.verify(caplog)
    assert not archive.table.exists()
    (tmp_path / "kept").rename(receipt)
    assert archive.verify(caplog) == (["verified", "verified"], 0)


def test_a_fetched_file_that_snakemake_touched_is_not_read_again_and_one_written_to_is(
    archive, caplog
):
    archive.videos.pop()
    book = Receipts(archive.receipts)
    book.write(archive.videos[0], archive.root, archive.videos[0].md5, part=archive.path(1))
    os.utime(archive.path(1))
    assert archive.verify(caplog) == (["verified"], 0)
    time.sleep(0.01)
    os.utime(archive.path(1))
    assert archive.verify(caplog) == (["verified"], 1)  # only the first touch was Snakemake's


def test_an_archive_that_moved_is_read_again(archive, caplog):
    archive.verify(caplog)
    archive.root = archive.root.rename(archive.root.with_name("elsewhere"))
    assert archive.verify(caplog) == (["verified", "verified"], 2)


def test_the_edition_changes_with_a_file_and_once_verified_stays(archive, caplog):
    assert archive.edition() == 0  # nothing known, nothing to compare with
    archive.verify(caplog)
    assert archive.edition() == 0
    for number in (1, 2):
        state = archive.path(1).stat()
        archive.path(1).write_bytes(archive.content(number + 4))
        os.utime(archive.path(1), ns=(state.st_atime_ns, state.st_mtime_ns - 10**9))
        assert archive.edition() == number
        archive.verify(caplog)
        assert archive.edition() == number
    archive.path(1).unlink()
    assert archive.edition() == 3
    archive.verify(caplog)
    assert archive.edition() == 3


def test_what_cannot_be_held_to_an_md5_is_distinguished(archive, caplog):
    names = ("P01_01", "P01_02", "P01_03", "P01_04", "P01_05")
    archive.videos[1] = Video("P01_02", "P01", "train", 50.0, 9.0)
    archive.videos += [
        Video(name, "P01", "train", 50.0, 9.0, md5=md5(b"")) for name in names[2:]
    ]  # fmt: skip
    archive.path(3).mkdir()
    archive.path(4).symlink_to("nowhere")
    states, read = archive.verify(caplog)
    assert states == ["verified", "unverified", "unreadable", "unreadable", "missing"]
    assert read == 1
    reasons = [row.reason for row in read_verdicts(archive.table)]
    assert reasons[1] == "the sheet has no md5" and reasons[4] == f"no file {archive.path(5)}"


def test_one_sentence_settles_an_archive(archive, tmp_path, caplog):
    archive.verify(caplog)
    write_videos_ok([str(archive.table)], tmp_path / "videos.ok")
    assert (tmp_path / "videos.ok").read_text() == "2 videos: 2 verified; 0.005 GB\n"


def test_an_archive_that_is_not_whole_names_what_lacks(archive, tmp_path, caplog):
    archive.path(1).unlink()
    archive.path(2).write_bytes(b"half")
    archive.verify(caplog)
    with pytest.raises(EpicError, match="2 of 2 videos .*: P01_01 missing, P01_02 wrong; all"):
        write_videos_ok([str(archive.table)], tmp_path / "videos.ok")
    assert not (tmp_path / "videos.ok").exists()


def test_a_sheet_whose_md5_is_none_is_one_error(archive):
    archive.videos[0] = Video("P01_01", "P01", "train", 50.0, 9.0, md5="abc")
    with pytest.raises(EpicError, match="video P01_01: checksum is 'md5:abc'; expected md5"):
        verify_videos(archive.videos, archive.root, archive.table, archive.receipts)


def test_a_table_edited_amiss_names_its_line(archive, tmp_path, caplog):
    archive.verify(caplog)
    archive.table.write_text(archive.table.read_text().replace("verified", "fine", 1))
    with pytest.raises(EpicError, match=r"P01\.tsv: line 2: status is 'fine'"):
        write_videos_ok([str(archive.table)], tmp_path / "videos.ok")
