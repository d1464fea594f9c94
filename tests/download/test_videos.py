import hashlib
from dataclasses import replace

import pytest

from epic100.base.errors import EpicError
from epic100.download.part import claim
from epic100.download.videos import download_video, write_videos_ok
from epic100.video.scan_table import ScanRow, write_scan_table
from epic100.video.sheet import Video

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def bring(server, tmp_path):
    """Downloads a video below the test's folder."""

    def bring(video):
        download_video(video, tmp_path, private_hosts=["127.0.0.1"])
        assert video.path(tmp_path).read_bytes() == CONTENT

    return bring


def video(server, name="P01_01", md5=MD5):
    return Video(name, "P01", "train", 50.0, 60.0, server.put(f"{name}.MP4", CONTENT), md5)


def test_a_downloaded_video_is_never_written_over(server, tmp_path, caplog, bring):
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
        part.write(CONTENT[: len(CONTENT) // 2])
    bring(wanted)
    assert any(line.startswith("P01_01: 1/1 MB, ") and " left" in line for line in caplog.messages)


def table_of(rows, tmp_path):
    write_scan_table(rows, tmp_path / "scan/P01.tsv")
    return [tmp_path / "scan/P01.tsv"]


def test_all_is_well_if_no_file_differs_from_the_sheet(tmp_path, caplog):
    videos = [Video(f"P01_0{i}", "P01", "train", 50.0, 9.0, md5=MD5.upper()) for i in (1, 2, 3)]
    videos[2] = replace(videos[2], md5="")
    rows = [ScanRow("P01_01", "ok", md5=MD5), ScanRow("P01_02", "damaged", md5=MD5)]
    tables = table_of([*rows, ScanRow("P01_03", "ok", md5="0" * 32)], tmp_path)
    write_videos_ok(videos, tables, tmp_path / "videos.ok")
    assert (tmp_path / "videos.ok").read_text() == "3 videos: 2 verified, 1 unverified\n"


def test_one_sentence_names_what_lacks(tmp_path):
    videos = [Video(f"P01_0{i}", "P01", "train", 50.0, 9.0, md5=MD5) for i in (1, 2, 3, 4)]
    rows = [
        ScanRow("P01_01", "missing", reason="no file"),
        ScanRow("P01_02", "ok", md5="0" * 32),
        ScanRow("P01_03", "unreadable", reason="cannot open"),
        ScanRow("P01_04", "ok", md5=MD5),
    ]
    words = "3 of 4 videos .*: P01_01 missing, P01_02 wrong, P01_03 unreadable; all"
    with pytest.raises(EpicError, match=words):
        write_videos_ok(videos, table_of(rows, tmp_path), tmp_path / "videos.ok")
    assert not (tmp_path / "videos.ok").exists()
