import hashlib
import threading
import time

import pytest

from epic100.base.errors import EpicError
from epic100.download.archive_bar import ArchiveBar
from epic100.download.fetch import FetchSettings
from epic100.download.receipts import md5_of
from epic100.download.videos import download_video
from epic100.video.sheet import Video
from support.fault_server import stall

CONTENT = bytes(range(256)) * 4000
HASTY = FetchSettings(tries=4, stall_seconds=0.5, pause_seconds=0.01)


def video(server, *faults, name="P01_01", md5=None):
    url = server.put(f"{name}.MP4", CONTENT, *faults)
    md5 = hashlib.md5(CONTENT).hexdigest() if md5 is None else md5
    return Video(name, "P01", "train", 50.0, 60.0, url, md5)


@pytest.fixture
def bring(tmp_path):
    """Downloads a video below the test's folder."""
    return lambda wanted, **more: download_video(
        wanted, tmp_path, tmp_path / "receipts", settings=HASTY, **more
    )


def test_a_downloaded_video_has_its_receipt_and_is_never_written_over(
    server, tmp_path, caplog, bring
):
    wanted = video(server)
    bring(wanted)
    assert wanted.path(tmp_path).read_bytes() == CONTENT
    assert md5_of(wanted, tmp_path, tmp_path / "receipts") == wanted.md5
    assert "P01_01: 1.0 MB in" in caplog.text
    wanted.path(tmp_path).write_bytes(b"of the lab")
    with pytest.raises(EpicError, match=r"P01_01\.MP4: there already; .*writes over nothing"):
        bring(wanted)
    assert wanted.path(tmp_path).read_bytes() == b"of the lab" and len(server.asked) == 1


def test_a_video_without_md5_is_fetched_and_it_is_said(server, tmp_path, caplog, bring):
    wanted = video(server, md5="")
    bring(wanted)
    assert "the sheet has no md5 to hold it to" in caplog.text
    assert md5_of(wanted, tmp_path, tmp_path / "receipts") == hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def hasty_bar(monkeypatch):
    """A bar that looks and speaks at every tick."""
    monkeypatch.setattr("epic100.download.archive_bar.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("epic100.base.progress.PLAIN_SECONDS", 0.0)


def test_one_bar_counts_all_videos_and_the_half_ones_by_their_bytes(
    server, tmp_path, caplog, bring, hasty_bar
):
    archive = [video(server, stall(512_000), name=f"P01_0{i}") for i in (1, 2, 3)]
    archive[2].path(tmp_path).parent.mkdir()
    archive[2].path(tmp_path).write_bytes(CONTENT)

    threads = [
        threading.Thread(target=bring, args=(wanted,), kwargs={"archive": archive})
        for wanted in archive[:2]
    ]
    for thread in threads:
        thread.start()
    board = ArchiveBar(archive, tmp_path, tmp_path / "other.lock")
    fewest = 2.0
    until = time.monotonic() + 10
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        fewest = min(fewest, board.lacking()[1])
        time.sleep(0.01)
    board.close()
    for thread in threads:
        thread.join()
    assert fewest < 2.0
    lines = [line for line in caplog.messages if "all videos" in line]
    assert any("/2 minutes of video" in line and " left" in line for line in lines)
    assert any("files to come, P01_0" in line and "of 1 MB" in line for line in lines)
    assert board.lacking() == (0, 0.0)


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
