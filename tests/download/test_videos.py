import hashlib

import pytest

from epic100.base.errors import EpicError
from epic100.download.archive_bar import ArchiveBar
from epic100.download.fetch import FetchSettings
from epic100.download.part import claim
from epic100.download.receipts import md5_of
from epic100.download.videos import download_video
from epic100.video.sheet import Video

CONTENT = bytes(range(256)) * 4000
HASTY = FetchSettings(tries=4, stall_seconds=0.5, pause_seconds=0.01)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def bring(server, tmp_path):
    """Downloads a video below the test's folder."""

    def bring(video, **more):
        download_video(video, tmp_path, tmp_path / "receipts", settings=HASTY, **more)
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
    assert "P01_01: 1.0 MB in" in caplog.text and "md5 as the sheet says" in caplog.text
    wanted.path(tmp_path).write_bytes(b"of the lab")
    with pytest.raises(EpicError, match=r"P01_01\.MP4: there already; .*writes over nothing"):
        bring(wanted)
    assert wanted.path(tmp_path).read_bytes() == b"of the lab" and len(server.asked) == 1
    bring(video(server, "P01_02", md5=""))
    assert "the sheet has no md5 to hold it to" in caplog.text


@pytest.fixture
def hasty_bar(monkeypatch):
    """A bar that looks and speaks at every tick."""
    monkeypatch.setattr("epic100.download.archive_bar.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("epic100.base.progress.PLAIN_SECONDS", 0.0)


def test_one_bar_counts_all_videos_and_the_half_ones_by_their_bytes(
    server, tmp_path, caplog, bring, hasty_bar
):
    there, coming, wanted = archive = [video(server, f"P01_0{i}") for i in (1, 2, 3)]
    bring(there)
    with claim(coming.path(tmp_path)) as part:
        part.promise(len(CONTENT), None)
        part.write(CONTENT[: len(CONTENT) // 2])
    board = ArchiveBar(archive, tmp_path, tmp_path / "other.lock")
    assert board.lacking() == (2, 1.5)
    bring(wanted, archive=archive)
    lines = [line for line in caplog.messages if "download, all videos: " in line]
    assert all("minutes of video" in line for line in lines) and " left" in lines[0]
    assert any("2 files to come, P01_03 at" in line and "of 1 MB" in line for line in lines)
    assert board.lacking() == (1, 0.5)


def test_one_job_alone_holds_the_bar_and_another_takes_it_over(tmp_path, caplog, hasty_bar):
    archive = [Video("P01_01", "P01", "train", 50.0, 60.0)]
    first, second = (ArchiveBar(archive, tmp_path, tmp_path / "bar.lock") for _ in range(2))
    for board in (first, second, first, second):
        board.tick("note")
    assert len(caplog.messages) == 1
    first.close()
    second.tick("note")
    second.tick("note")
    assert "1 files to come, note" in caplog.messages[-1]
    second.close()
