"""One file over HTTP: whole and verified after any interruption, or refused in one line."""

import hashlib
import multiprocessing
import random
import time

import pytest

from epic100.base.disk import Checksum
from epic100.base.errors import EpicError
from epic100.download.fetch import PROGRESS, fetch, pause
from epic100.download.part import claim, part_path
from support.checkout import python
from support.fault_server import (
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


def part_size(target) -> int:
    """The number of bytes in the `.part` file of a download; 0 if there is none."""
    part = part_path(target)
    return part.stat().st_size if part.exists() else 0


def download(url, target, content=CONTENT, checksum=MD5):
    """Fetch a file, assert that it is whole and alone in its folder, and return the log's lines."""
    with records_of("epic100.download.fetch") as lines:
        fetch(url, target, checksum, private_hosts=["127.0.0.1"])
    assert list(target.parent.iterdir()) == [target]
    assert target.read_bytes() == content
    return lines


def assert_refused(url, target, words, checksum=MD5):
    """Assert that a download ends with an error of one line and without the file."""
    with pytest.raises(EpicError, match=words) as caught:
        fetch(url, target, checksum, private_hosts=["127.0.0.1"])
    assert "\n" not in str(caught.value)
    assert not target.exists()


def cut_ignoring_range(after):
    """A fault: the server sends the file from its start, whatever was asked for, and hangs up."""
    return lambda handler, content, start: cut(after)(handler, content, 0)


# These ranges are asked for if 100 kB come, then 50 kB, then none.
RESUMED = [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]
# The server sends all bytes, as if the first one had been asked for.
OTHER_RANGE = status(206, sends=True, Content_Range="bytes 0-299999/300000")


@pytest.mark.parametrize(
    # Faults are the server's answers to the first requests; later ones get what they ask for. Each
    # request has a header Range, or None if it is for the whole file. The reason is in the line of
    # the log that each attempt but the last one has.
    ("faults", "expected_ranges", "reason_in_log"),
    [
        pytest.param([], [None], "", id="no fault"),
        pytest.param([without_length], [None], "", id="no length"),
        # A download that is cut goes on from its last byte.
        pytest.param(
            [cut(100_000), cut(50_000), cut(0)], RESUMED, "once more from 1", id="cut three times"
        ),
        pytest.param(
            [reset(100_000), reset(50_000), cut(0)], RESUMED, "once more from 1", id="TCP resets"
        ),
        # All bytes come at first, but fewer than were promised, so the rest is asked for. There is
        # none, and the MD5 tells that the file is whole. So the last two answers are not needed.
        pytest.param(
            [promise(5000)] * 4,
            [None, "bytes=300000-"],
            "once more from 300000 bytes",
            id="too large a Content-Length",
        ),
        # It begins anew if its bytes cannot be continued.
        pytest.param(
            [cut(100_000), ignoring_range],
            [None, "bytes=100000-", None],
            " from 100000 bytes",
            id="the server ignores ranges",
        ),
        pytest.param(
            [cut(100_000), OTHER_RANGE],
            [None, "bytes=100000-", None],
            " from 100000 bytes",
            id="another range than was asked for",
        ),
        pytest.param(
            [wrong_bytes],
            [None, None],
            f"expected {MD5.value}; once more from 0 bytes",
            id="wrong bytes once",
        ),
        # A server that is busy is asked again.
        *(
            pytest.param([status(code)] * 2, [None] * 3, f"HTTP {code}", id=f"HTTP {code}")
            for code in (408, 429, 500, 502, 503, 504)
        ),
        # A Retry-After that cannot be read counts as none. Python reads no number of 5000 digits.
        *(
            pytest.param(
                [status(503, Retry_After=text)],
                [None] * 2,
                "HTTP 503",
                id=f"Retry-After: {text[:8]}",
            )
            for text in ("9" * 5000, "Fri, 99 Dec 99999 99:99:99 GMT", "soon")
        ),
    ],
)
def test_a_file_comes_whole_in_spite_of_faults_of_its_server(
    server, target, faults, expected_ranges, reason_in_log
):
    lines = download(server.put("a", CONTENT, *faults), target)
    assert server.ranges("a") == expected_ranges
    assert len(lines) == len(expected_ranges) - 1
    assert all(reason_in_log in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [pytest.param(stall(100_000), id="no bytes"), pytest.param(drip, id="a few bytes")]
)
def test_a_connection_that_is_too_slow_is_dropped_and_the_file_resumed(
    server, target, fault, monkeypatch
):
    monkeypatch.setattr("epic100.download.fetch.STALL_SECONDS", 1)
    download(server.put("a", CONTENT, fault), target)
    first, second = server.ranges("a")
    assert first is None
    assert second.startswith("bytes=")
    # The server would go on for 20 s and more.
    assert server.begun[1] - server.begun[0] < 15


def test_the_pause_is_at_least_the_retry_after_of_the_server(server, target):
    download(server.put("a", CONTENT, status(503, Retry_After="1")), target)
    assert server.begun[1] - server.begun[0] >= 1


@pytest.mark.parametrize(("failures", "longest"), [(1, 2), (2, 4), (3, 8), (7, 120), (12, 120)])
def test_pauses_double_up_to_two_minutes_and_are_random(failures, longest):
    pauses = [pause(failures) for _ in range(50)]
    assert longest / 2 <= min(pauses) < max(pauses) <= longest


# The fixture `server` lets a download make 4 attempts in a row that bring nothing.
GIVEN_UP = "given up after 4 attempts"
TWICE_WRONG = r"md5 \w{32} of %d bytes, expected \w{32}, 2 times; nothing was kept"


@pytest.mark.parametrize(
    ("faults", "words", "request_count", "kept_bytes"),
    [
        *(
            pytest.param(
                [status(code)],
                rf"HTTP {code}; .*check the `url` of the sheet.*P01_01\.MP4",
                1,
                0,
                id=f"HTTP {code}",
            )
            for code in (401, 403, 404, 410)
        ),
        pytest.param(
            [cut(120_000), *[status(503)] * 4],
            rf"HTTP 503; {GIVEN_UP} .*keeps 120000 b",
            4,
            120_000,
            id="cut, then HTTP 503",
        ),
        # Four requests bring the first 200 kB. Three in between ask for the rest, and get no range.
        pytest.param(
            [cut_ignoring_range(200_000)] * 20,
            rf".*{GIVEN_UP}",
            7,
            200_000,
            id="cut again and again, without ranges",
        ),
        pytest.param([wrong_bytes] * 2, TWICE_WRONG % 300_000, 2, 0, id="wrong bytes twice"),
        pytest.param(
            [promise(-1000)] * 8, TWICE_WRONG % 299_000, 2, 0, id="too small a Content-Length"
        ),
    ],
)
def test_a_download_that_fails_is_an_error_and_the_next_run_resumes_it(
    server, target, faults, words, request_count, kept_bytes
):
    url = server.put("a", CONTENT, *faults)
    assert_refused(url, target, f"^{url}: {words}")
    assert len(server.asked) == request_count
    assert part_size(target) == kept_bytes
    server.put("a", CONTENT)
    download(url, target)
    next_range = f"bytes={kept_bytes}-" if kept_bytes else None
    assert server.ranges("a")[request_count] == next_range


def test_a_download_that_makes_progress_may_be_cut_any_number_of_times(server, target, monkeypatch):
    monkeypatch.setattr("epic100.download.fetch.TRIES", 2)
    download(server.put("a", LONG, *[cut(PROGRESS + 1)] * 5), target, LONG, LONG_MD5)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("part", "ranges"),
    [
        pytest.param(bytes(1000), ["bytes=1000-", None], id="other bytes"),
        pytest.param(CONTENT, ["bytes=300000-"], id="all bytes"),
        pytest.param(CONTENT + bytes(1), ["bytes=300001-", None], id="a byte too many"),
        pytest.param(CONTENT + bytes(5000), ["bytes=305000-", None], id="5000 bytes too many"),
    ],
)
def test_a_part_of_an_earlier_run_is_used_only_if_the_md5_is_right(server, target, part, ranges):
    target.parent.mkdir()
    part_path(target).write_bytes(part)
    download(server.put("a", CONTENT), target)
    assert server.ranges("a") == ranges


def test_without_a_checksum_each_attempt_begins_anew(server, target):
    """Else any five bytes would be the whole file if the server has no bytes after them."""
    target.parent.mkdir()
    part_path(target).write_bytes(bytes(5))
    download(server.put("a", CONTENT, cut(1000)), target, checksum=None)
    assert server.ranges("a") == [None, None]


def test_without_a_checksum_a_file_that_is_too_short_is_refused(server, target):
    url = server.put("a", CONTENT, *[cut(1000)] * 9)
    assert_refused(url, target, "given up", checksum=None)


@pytest.mark.parametrize("url", ["", "P01_01.MP4", "ftp://x/a", "file:///etc/passwd"])
def test_a_url_that_is_not_http_is_refused(target, url):
    assert_refused(url, target, r"its url is .*expected http:// or https://")


def test_a_second_process_does_not_download_the_same_file(server, target):
    url = server.put("a", CONTENT)
    with claim(target):
        assert_refused(url, target, "another process downloads this file")
    assert server.asked == []


@pytest.mark.slow
def test_a_killed_download_is_resumed_from_the_bytes_on_the_disk(server, target):
    url = server.put("a", LONG, stall(2_500_000))
    processes = multiprocessing.get_context("forkserver")
    process = processes.Process(target=download, args=(url, target, LONG, LONG_MD5))
    process.start()
    deadline = time.monotonic() + 60
    # The process may hold some of the 2.5 MB in a buffer, which are lost.
    while part_size(target) < 2_000_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not target.exists()
    kept_bytes = part_size(target)
    download(url, target, LONG, LONG_MD5)
    assert server.ranges("a") == [None, f"bytes={kept_bytes}-"]


@pytest.mark.slow
def test_trainings_scans_and_rules_do_not_import_pycurl():
    """They import the modules of downloads, which need libcurl only where a transfer begins."""
    code = (
        "import sys, epic100.training.train, epic100.scan.participant,"
        "epic100.download.annotations, epic100.download.weights, epic100.download.videos;"
        "sys.exit('pycurl' in sys.modules)"
    )
    python("-P", "-c", code)
