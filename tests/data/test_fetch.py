"""One file over HTTP: complete and verified after any interruption, or rejected in one line."""

import fcntl
import hashlib
import os
import random
import signal
import threading
import time

import pytest

from epic100.base.disk import Checksum
from epic100.base.errors import EpicError
from epic100.data.fetch import PROGRESS, fetch, part_path
from support.checkout import python
from support.failing_server import (
    cut,
    drip,
    ignoring_range,
    promise,
    reset,
    stall,
    status,
    without_length,
    wrong_bytes,
)
from support.this_process import records_of

CONTENT = random.Random(0).randbytes(300_000)
MD5 = Checksum("md5", hashlib.md5(CONTENT).hexdigest())
# It has 6 MB, which a download receives piece by piece.
LONG = CONTENT * 20
LONG_MD5 = Checksum("md5", hashlib.md5(LONG).hexdigest())


@pytest.fixture
def target(tmp_path):
    return tmp_path / "P01/P01_01.MP4"


def download(url, target, content=CONTENT, checksum=MD5):
    """Fetch a file, assert that it is whole and alone in its folder, and return the log's lines."""
    with records_of("epic100.data.fetch") as lines:
        fetch(url, target, checksum)
    assert list(target.parent.iterdir()) == [target]
    assert target.read_bytes() == content
    return lines


def assert_rejected(url, target, words, checksum=MD5):
    """Assert that a download ends with an error of one line and without the file."""
    with pytest.raises(EpicError, match=words) as caught:
        fetch(url, target, checksum)
    assert "\n" not in str(caught.value)
    assert not target.exists()


# These ranges are asked for if 100 kB come, then 50 kB, then none.
RESUMED = [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]
ANEW = [None, "bytes=100000-", None]
# The server sends all bytes, as if the first one had been asked for.
OTHER_RANGE = status(206, sends=True, Content_Range="bytes 0-299999/300000")


@pytest.mark.parametrize(
    # These are the server's answers to the first requests; later ones get what they ask for. Each
    # request has a header Range, or None if it is for the complete file. The reason is in the line
    # of the log that each attempt but the last one has.
    ("answers", "ranges", "reason"),
    [
        pytest.param([], [None], "", id="no error"),
        pytest.param([without_length], [None], "", id="no length"),
        # A download that is cut goes on from its last byte.
        pytest.param([cut(100_000), cut(50_000), cut(0)], RESUMED, "once more from 1", id="cut"),
        pytest.param([reset(100_000), reset(50_000), cut(0)], RESUMED, "from 1", id="TCP resets"),
        # All bytes come at first, but fewer than were promised. There is no rest.
        pytest.param([promise(5000)], [None, "bytes=300000-"], "from 300000 b", id="long length"),
        # It begins anew if its bytes cannot be continued.
        pytest.param([cut(100_000), ignoring_range], ANEW, "", id="the server ignores ranges"),
        pytest.param([cut(100_000), OTHER_RANGE], ANEW, "", id="another range than asked for"),
        pytest.param([wrong_bytes], [None, None], f"expected {MD5}; once", id="wrong bytes once"),
        # A server that is busy is asked again, and so is one that sends a page in the file's place.
        *(
            pytest.param([status(code, sends=True)] * 2, [None] * 3, f"HTTP {code}", id=str(code))
            for code in (203, 302, 408, 429, 500, 503)
        ),
        # A Retry-After that cannot be read counts as none. Python reads no number of 5000 digits.
        *(
            pytest.param([status(503, Retry_After=text)], [None] * 2, "HTTP 503", id=text[:8])
            for text in ("9" * 5000, "Fri, 99 Dec 99999 99:99:99 GMT", "soon")
        ),
    ],
)
def test_bad_servers_still_give_complete_files(server, target, answers, ranges, reason):
    lines = download(server.put("a", CONTENT, *answers), target)
    assert server.ranges("a") == ranges
    assert len(lines) == len(ranges) - 1
    assert all(reason in line for line in lines)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ETag": '"1"'}, {"ETag": '"2"'}),
        ({"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"Last_Modified": "today"}),
        pytest.param({}, {"Content_Range": "bytes 100000-299999/300001"}, id="total length"),
        pytest.param({"ETag": '"1"'}, {"ETag": '"1"'}, id="no change"),
    ],
)
def test_a_changed_file_is_fetched_anew(server, target, before, after):
    headers = {"Content_Range": "bytes 100000-299999/300000", **after}
    rest = status(206, CONTENT[100_000:], **headers)
    lines = download(server.put("a", CONTENT, cut(100_000, **before), rest), target)
    assert server.ranges("a") == (ANEW if before != after else ANEW[:2])
    assert ("another version of the file" in lines[-1]) == (before != after)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [pytest.param(stall(100_000), id="no bytes"), pytest.param(drip(20), id="a few bytes")],
)
def test_a_connection_that_is_too_slow_is_dropped(server, target, answer, monkeypatch):
    monkeypatch.setattr("epic100.data.fetch.STALL_SECONDS", 1)
    download(server.put("a", CONTENT, answer), target)
    assert server.ranges("a")[1].startswith("bytes=")
    # The server would go on for 20 s and more.
    assert server.begun[1] - server.begun[0] < 15


@pytest.mark.parametrize(
    ("answer", "hours"),
    [
        # It is fast enough to be no slow connection, and would take a minute.
        pytest.param(drip(5000), 2 / 3600, id="slow"),
        pytest.param(cut(2 * PROGRESS, Retry_After="2000"), 0.5, id="cut with a long Retry-After"),
    ],
)
def test_a_download_ends_after_its_total_time(server, target, answer, hours, monkeypatch):
    monkeypatch.setattr("epic100.data.fetch.HOURS", hours)
    begun = time.monotonic()
    words = rf"given up after attempt 1 of 4 .*, 0\.0 of {hours:g} hours; .*part keeps \d+ b"
    assert_rejected(server.put("a", LONG, answer, answer), target, words, LONG_MD5)
    assert time.monotonic() - begun < 10
    kept = part_path(target).stat().st_size
    download(server.put("a", LONG), target, LONG, LONG_MD5)
    assert server.ranges("a") == [None, f"bytes={kept}-"]


def test_a_retry_waits_as_the_server_says(server, target):
    download(server.put("a", CONTENT, status(503, Retry_After="1")), target)
    assert server.begun[1] - server.begun[0] >= 1


# The fixture `server` lets a download make 4 attempts in a row that bring nothing.
GIVEN_UP = "given up .* attempt 4 of 4"
CORRECT_URL = r".*url.*P01_01\.MP4"


@pytest.mark.parametrize(
    ("answers", "words", "requests", "kept", "checksum"),
    [
        pytest.param([status(401)], "HTTP 401; " + CORRECT_URL, 1, 0, MD5, id="401"),
        pytest.param([status(403)], "HTTP 403; " + CORRECT_URL, 1, 0, MD5, id="403"),
        pytest.param([status(404)], "HTTP 404; " + CORRECT_URL, 1, 0, MD5, id="404"),
        pytest.param([status(410)], "HTTP 410; " + CORRECT_URL, 1, 0, MD5, id="410"),
        pytest.param([cut(120_000), *[status(503)] * 4], GIVEN_UP, 4, 120_000, MD5, id="503"),
        pytest.param(
            [cut(200_000), ignoring_range, *[cut(0)] * 4], GIVEN_UP, 4, 0, MD5, id="no range"
        ),
        pytest.param([cut(1000)] * 4, GIVEN_UP, 4, 1000, None, id="too short, without a checksum"),
        pytest.param([wrong_bytes] * 2, "md5 .* of 300000 bytes, exp", 2, 0, MD5, id="wrong bytes"),
        pytest.param([promise(-1000)] * 8, "md5 .* of 299000 bytes", 2, 0, MD5, id="short length"),
    ],
)
def test_the_next_run_resumes_a_download(server, target, answers, words, requests, kept, checksum):
    url = server.put("a", CONTENT, *answers)
    assert_rejected(url, target, f"^{url}: .*{words}", checksum)
    assert part_path(target).stat().st_size == kept
    download(server.put("a", CONTENT), target, checksum=checksum)
    last_range = f"bytes={kept}-" if kept and checksum else None
    assert server.ranges("a")[requests:] == [last_range]


def test_a_progressing_download_may_be_cut_often(server, target, monkeypatch):
    monkeypatch.setattr("epic100.data.fetch.TRIES", 2)
    download(server.put("a", LONG, *[cut(PROGRESS + 1)] * 5), target, LONG, LONG_MD5)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("part", "checksum", "ranges"),
    [
        pytest.param(CONTENT[:1000], MD5, ["bytes=1000-"], id="first bytes"),
        pytest.param(bytes(1000), MD5, ["bytes=1000-", None], id="other bytes"),
        pytest.param(CONTENT, MD5, ["bytes=300000-"], id="all bytes"),
        pytest.param(CONTENT + bytes(5000), MD5, ["bytes=305000-", None], id="too many bytes"),
        # Else any five bytes would be the complete file if the server has no bytes after them.
        pytest.param(bytes(5), None, [None, None], id="no checksum"),
    ],
)
def test_an_old_part_needs_the_right_md5(server, target, part, checksum, ranges):
    target.parent.mkdir()
    part_path(target).write_bytes(part)
    download(server.put("a", CONTENT, *[cut(1000)] * (not checksum)), target, checksum=checksum)
    assert server.ranges("a") == ranges


@pytest.mark.parametrize("url", ["", "P01_01.MP4", "ftp://x/a", "http://h:99999/a"])
def test_a_url_that_is_not_http_is_rejected(target, url):
    assert_rejected(url, target, r"its url is .*expected http:// or https://")


def test_a_second_process_does_not_download_too(server, target):
    target.parent.mkdir()
    with part_path(target).open("wb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        assert_rejected(server.put("a", CONTENT), target, "another process downloads this file")
    assert server.asked == []


def test_ctrl_c_ends_a_download_that_stalls(server, target):
    url = server.put("a", CONTENT, stall(100_000))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        fetch(url, target, MD5)
    assert len(server.asked) == 1


@pytest.mark.slow
def test_jobs_import_no_pycurl_and_say_no_warning():
    """They import the modules of downloads, which need libcurl only where a transfer begins.

    That `epic100.mmaction` registers what configs name is tested by MMAction2's own tool in
    training/test_run.py.
    """
    code = (
        "import epic100.mmaction, sys, epic100.training.train, epic100.scan.participant,"
        "epic100.data.downloads, epic100.data.start_weights;"
        "sys.exit('pycurl' in sys.modules)"
    )
    assert not python("-W", "error::UserWarning", "-P", "-c", code).stderr
