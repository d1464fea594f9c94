"""Downloads of videos, and the check of all video files against the sheet."""

import hashlib

import pytest

from epic100.base.errors import EpicError
from epic100.data.downloads import download_video, write_videos_ok
from epic100.data.fetch import part_path
from epic100.video.scan_table import ScanRow, write_scan_table
from epic100.video.sheet import Video

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def download(server, tmp_path):
    """A function that puts a video on the server, downloads it below `tmp_path`, and checks it."""

    def download(name, md5):
        url = server.put(f"{name}.MP4", CONTENT)
        video = Video(name, "P01", "train", 50.0, 60.0, url, md5)
        download_video(video, tmp_path)
        assert video.path(tmp_path).read_bytes() == CONTENT

    return download


@pytest.mark.parametrize(
    ("md5", "verdict"), [(MD5, "md5 as the sheet says"), ("", "the sheet has no md5 to hold it to")]
)
def test_the_log_has_the_progress_of_the_complete_file_and_whether_its_md5_was_compared(
    download, tmp_path, caplog, monkeypatch, md5, verdict
):
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", 0.0)
    part = part_path(tmp_path / "P01/P01_01.MP4")
    part.parent.mkdir()
    part.write_bytes(CONTENT[: len(CONTENT) // 2])
    download("P01_01", md5)
    # The file has 1.024 MB.
    assert any(line.startswith("P01_01: 1/1 MB, ") and " left" in line for line in caplog.messages)
    assert "P01_01: 1 MB in" in caplog.text
    assert verdict in caplog.text
    # The next one writes over nothing.
    with pytest.raises(EpicError, match=r"P01_01\.MP4: there already; .*writes over nothing"):
        download("P01_01", MD5)


@pytest.fixture
def check(tmp_path):
    """A function that checks scan rows against the sheet's md5s, and returns `videos.ok`."""

    def check(rows, md5s):
        videos = [
            Video(row.video_id, "P01", "train", 50.0, 9.0, md5=md5)
            for row, md5 in zip(rows, md5s, strict=True)
        ]
        write_scan_table(rows, tmp_path / "P01.tsv")
        write_videos_ok(videos, [tmp_path / "P01.tsv"], tmp_path / "videos.ok")
        return (tmp_path / "videos.ok").read_text()

    return check


def test_videos_are_verified_by_the_md5_of_the_sheet_in_either_case(check):
    rows = [
        ScanRow("P01_01", "ok", md5=MD5),
        ScanRow("P01_02", "damaged", md5=MD5),
        ScanRow("P01_03", "ok", md5="0" * 32),
    ]
    assert check(rows, [MD5, MD5.upper(), ""]) == "3 videos: 2 verified, 1 unverified\n"


def test_an_error_names_the_videos_that_are_not_those_of_the_sheet(check, tmp_path):
    rows = [
        ScanRow("P01_01", "missing", reason="no file"),
        ScanRow("P01_02", "ok", md5="0" * 32),
        ScanRow("P01_03", "unreadable", reason="cannot open"),
        ScanRow("P01_04", "ok", md5=MD5),
    ]
    words = "3 of 4 videos .*: P01_01 missing, P01_02 wrong, P01_03 unreadable; all"
    with pytest.raises(EpicError, match=words):
        check(rows, [MD5] * 4)
    assert not (tmp_path / "videos.ok").exists()
