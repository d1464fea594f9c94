import hashlib

import pytest

from epic100.base.errors import EpicError
from epic100.download.fetch import FetchSettings
from epic100.download.part import claim
from epic100.download.videos import download_video, md5_of
from epic100.video.sheet import Video

CONTENT = bytes(range(256)) * 4000
HASTY = FetchSettings(tries=4, stall_seconds=0.5, pause_seconds=0.01)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def bring(server, tmp_path):
    """Downloads a video below the test's folder."""

    def bring(video):
        download_video(video, tmp_path, tmp_path / "receipts", settings=HASTY)
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
