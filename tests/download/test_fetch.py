import hashlib
import multiprocessing
import random
import subprocess
import sys
import time

import pytest

from epic100.base.disk import Checksum
from epic100.base.errors import EpicError
from epic100.download.fetch import PROGRESS, fetch, pause
from epic100.download.part import claim, part_path
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
# It sends the whole file, as if that had been asked for.
ANOTHER_PART = status(206, sends=True, Content_Range="bytes 0-299999/300000")
LONG = CONTENT * 20


def md5_of(content: bytes) -> Checksum:
    return Checksum("md5", hashlib.md5(content).hexdigest())


MD5 = md5_of(CONTENT)


def kept_of(target) -> int:
    """Bytes that are kept of a file that is not whole."""
    part = part_path(target)
    return part.stat().st_size if part.exists() else 0


@pytest.fixture
def target(tmp_path):
    return tmp_path / "P01/P01_01.MP4"


HERE = ["127.0.0.1"]


def bring(url, target, content=CONTENT, checked=True):
    """Fetch the content, whole and with nothing beside it; the lines that were said."""
    with records_of("epic100.download.fetch") as lines:
        checksum = md5_of(content) if checked else None
        fetch(url, target, checksum, private_hosts=HERE)
    assert list(target.parent.iterdir()) == [target] and target.read_bytes() == content
    return lines


def refused(url, target, words, checksum=MD5):
    with pytest.raises(EpicError, match=words) as caught:
        fetch(url, target, checksum, private_hosts=HERE)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def ignoring_cut(after):
    def fault(handler, content, start):
        cut(after)(handler, content, 0)

    return fault


CUTS = [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]


@pytest.mark.parametrize(
    "faults, ranges, said",
    [
        ([], [None], ""),
        ([cut(100_000), cut(50_000), cut(0)], CUTS, "once more from 1"),
        ([reset(100_000), reset(50_000), cut(0)], CUTS, "once more from 1"),
        # A server that ignores ranges starts over; nothing is sewn together.
        ([cut(100_000), ignoring_range], [*CUTS[:2], None], " from 100000 bytes"),
        # Another range than was asked for is not appended.
        ([cut(100_000), ANOTHER_PART], [*CUTS[:2], None], " from 100000 bytes"),
        # If a server promises too many bytes, the MD5 tells that the file is whole.
        ([promise(1)] * 4, [None, "bytes=300000-"], "once more from 300000 bytes"),
        ([promise(5000)] * 4, [None, "bytes=300000-"], "once more from 300000 bytes"),
        ([without_length], [None], ""),
        ([wrong_bytes], [None] * 2, f"expected {MD5.value}; once more from 0 bytes"),
        *(
            ([status(code)] * 2, [None] * 3, f"HTTP {code}")
            for code in (408, 429, 500, 502, 503, 504)
        ),
        # A time to wait that cannot be read counts as none: a number too long for Python, an
        # impossible date, a word.
        *(
            ([status(503, Retry_After=text)], [None] * 2, "HTTP 503")
            for text in ("9" * 5000, "Fri, 99 Dec 99999 99:99:99 GMT", "soon")
        ),
    ],
)
def test_a_file_comes_whole_whatever_its_server_does(server, target, faults, ranges, said):
    lines = bring(server.put("a", CONTENT, *faults), target)
    assert server.ranges("a") == ranges
    assert len(lines) == len(ranges) - 1 and all(said in line for line in lines)


@pytest.mark.parametrize("fault", [stall(100_000), drip], ids=["silence", "a trickle"])
def test_a_connection_that_brings_nothing_is_dropped_and_gone_on_from(
    server, target, fault, monkeypatch
):
    monkeypatch.setattr("epic100.download.fetch.STALL_SECONDS", 1)
    bring(server.put("a", CONTENT, fault), target)
    first, second = server.ranges("a")
    assert first is None and second.startswith("bytes=")
    # The server would go on for 20 s and more.
    assert server.begun[1] - server.begun[0] < 15


def test_a_file_that_changes_between_two_runs_is_taken_from_the_start(server, target):
    url = server.put("a", bytes(200_000), cut(100_000), status(404))
    refused(url, target, "HTTP 404")
    assert kept_of(target) == 100_000
    server.put("a", CONTENT)
    bring(url, target)
    assert server.ranges("a") == [None, "bytes=100000-", "bytes=100000-", None]


def test_a_server_is_left_alone_as_long_as_it_asks(server, target):
    bring(server.put("a", CONTENT, status(503, Retry_After="1")), target)
    assert server.begun[1] - server.begun[0] >= 1


def test_pauses_grow_to_a_limit_and_differ():
    for failures, longest in ((1, 2), (2, 4), (3, 8), (7, 120), (12, 120)):
        pauses = [pause(failures) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


GIVEN_UP = "given up after 4 attempts"
TWICE_WRONG = r"md5 \w{32} of %d bytes, expected \w{32}, 2 times; nothing was kept"


@pytest.mark.parametrize(
    "faults, words, asked, kept",
    [
        *(
            ([status(code)], rf"HTTP {code}; .*check the `url` of the sheet.*P01_01\.MP4", 1, 0)
            for code in (401, 403, 404, 410)
        ),
        ([cut(120_000), *[status(503)] * 4], rf"HTTP 503; {GIVEN_UP} .*keeps 120000 b", 4, 120_000),
        ([ignoring_cut(200_000)] * 20, rf".*{GIVEN_UP}", 7, 200_000),
        ([wrong_bytes] * 2, TWICE_WRONG % 300_000, 2, 0),
        ([promise(-1000)] * 8, TWICE_WRONG % 299_000, 2, 0),
    ],
)
def test_a_server_that_does_not_give_the_file_is_given_up_in_one_line(
    server, target, faults, words, asked, kept
):
    url = server.put("a", CONTENT, *faults)
    refused(url, target, f"^{url}: {words}")
    assert len(server.asked) == asked and kept_of(target) == kept
    server.put("a", CONTENT)
    # The next run goes on like this, from the bytes that were kept.
    bring(url, target)
    assert server.ranges("a")[asked] == (f"bytes={kept}-" if kept else None)


def test_a_long_file_may_be_cut_more_often_than_a_dead_one_is_asked(server, target, monkeypatch):
    monkeypatch.setattr("epic100.download.fetch.TRIES", 2)
    url = server.put("a", LONG, *[cut(PROGRESS + 1)] * 5)
    bring(url, target, LONG)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "part, ranges",
    [
        # Wrong bytes of an earlier run do not spoil the file.
        (bytes(1000), ["bytes=1000-", None]),
        (CONTENT, ["bytes=300000-"]),
        (CONTENT + bytes(1), ["bytes=300001-", None]),
        (CONTENT + bytes(5000), ["bytes=305000-", None]),
    ],
)
def test_a_part_of_an_earlier_run_is_believed_for_the_md5(server, target, part, ranges):
    target.parent.mkdir()
    part_path(target).write_bytes(part)
    bring(server.put("a", CONTENT), target)
    assert server.ranges("a") == ranges


def test_without_a_checksum_the_length_decides_and_nothing_is_gone_on_with(server, target):
    """Else a server that has no bytes after five of anything would make them the whole file."""
    target.parent.mkdir()
    part_path(target).write_bytes(bytes(5))
    url = server.put("a", CONTENT, cut(1000))
    bring(url, target, checked=False)
    assert server.ranges("a") == [None, None]
    target.unlink()
    server.put("a", CONTENT, *[cut(1000)] * 9)
    refused(url, target, "given up", checksum=None)


def test_a_server_that_is_not_there_is_reported_in_few_words(server, target):
    url = server.put("a", CONTENT)
    server.shutdown()
    server.server_close()
    refused(url, target, r"Failed to connect to 127.* connect to server; given up after 4 attempts")


@pytest.mark.parametrize("url", ["", "P01_01.MP4", "ftp://x/a", "file:///etc/passwd"])
def test_an_url_that_is_none_is_named(target, url):
    refused(url, target, r"its url is .*expected http:// or https://")


def test_two_processes_do_not_write_one_file(server, target):
    url = server.put("a", CONTENT)
    with claim(target):
        refused(url, target, "another process downloads this file")
    assert server.asked == []
    bring(url, target)


def test_a_killed_download_leaves_no_half_file_and_is_gone_on_with(server, target):
    url = server.put("a", LONG, stall(2_500_000))
    processes = multiprocessing.get_context("forkserver")
    process = processes.Process(target=bring, args=(url, target, LONG))
    process.start()
    until = time.monotonic() + 60
    while kept_of(target) < 2_000_000 and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not target.exists()
    kept = kept_of(target)
    assert kept >= 2_000_000
    bring(url, target, LONG)
    assert server.ranges("a") == [None, f"bytes={kept}-"]


def test_what_does_not_download_does_not_import_the_library_of_downloads():
    """The rules, and jobs that train or scan, know the modules of downloads."""
    code = (
        "import sys, epic100.training.train, epic100.scan.participant,"
        "epic100.download.annotations, epic100.download.weights, epic100.download.videos;"
        "sys.exit('pycurl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
