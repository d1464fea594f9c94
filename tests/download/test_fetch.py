import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from epic100.base.errors import EpicError
from epic100.download.checksum import Checksum
from epic100.download.fetch import PROGRESS, FetchSettings, fetch
from epic100.download.part import claim, part_path, part_state
from support.fault_server import (
    cut,
    drip,
    from_the_start_as_206,
    ignoring_range,
    promise,
    reset,
    stall,
    status,
    without_length,
    wrong_bytes,
)
from support.records import records_of

CONTENT = random.Random(0).randbytes(300_000)
MD5 = Checksum("md5", hashlib.md5(CONTENT).hexdigest())
HASTY = FetchSettings(tries=4, stall_seconds=5, pause_seconds=0.01, max_pause_seconds=0.05)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "P01/P01_01.MP4"


def bring(url, target, checksum=MD5, settings=HASTY, **more):
    """Fetch and return the lines that were said."""
    with records_of("epic100.download.fetch") as lines:
        fetch(url, target, checksum, settings=settings, **more)
    assert list(target.parent.iterdir()) == [target]
    return lines


def refused(url, target, words, checksum=MD5, settings=HASTY):
    with pytest.raises(EpicError, match=words) as caught:
        fetch(url, target, checksum, settings=settings)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_a_file_comes_whole_in_one_request(server, target):
    seen = []
    url = server.put("a", CONTENT)
    assert bring(url, target, watch=lambda size, length: seen.append((size, length))) == []
    assert target.read_bytes() == CONTENT
    assert server.ranges("a") == [None]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("fault", [cut, reset], ids=["closed", "reset"])
def test_a_cut_is_gone_on_from_where_it_was(server, target, fault):
    url = server.put("a", CONTENT, fault(100_000), fault(50_000), cut(0))
    lines = bring(url, target)
    assert target.read_bytes() == CONTENT
    assert server.ranges("a") == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]
    assert len(lines) == 3 and "once more from 150000 bytes" in lines[1]


@pytest.mark.parametrize("fault", [stall(100_000), drip], ids=["silence", "a trickle"])
def test_a_connection_that_brings_nothing_is_dropped_and_gone_on_from(server, target, fault):
    started = time.monotonic()
    bring(server.put("a", CONTENT, fault), target, settings=replace(HASTY, stall_seconds=0.5))
    assert target.read_bytes() == CONTENT
    first, second = server.ranges("a")
    assert first is None and second.startswith("bytes=")
    assert time.monotonic() - started < 15  # the server would go on for 20 s and more


def test_a_server_that_ignores_ranges_starts_over_and_nothing_is_sewn_together(server, target):
    bring(server.put("a", CONTENT, cut(100_000), ignoring_range), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges("a") == [None, "bytes=100000-"]


def test_another_range_than_asked_for_is_not_appended(server, target):
    bring(server.put("a", CONTENT, cut(100_000), from_the_start_as_206), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges("a") == [None, "bytes=100000-", None]


def test_a_file_that_changes_between_two_attempts_is_taken_from_the_start(server, target):
    url = server.put("a", bytes(200_000), cut(100_000))
    with pytest.raises(EpicError, match="IncompleteRead"):
        fetch(url, target, MD5, settings=replace(HASTY, tries=1))
    assert part_state(target) == (100_000, 200_000)
    server.put("a", CONTENT)
    bring(url, target)
    assert server.ranges("a") == [None, "bytes=100000-"]  # If-Range: the server sent all of it
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(server, target, code):
    lines = bring(server.put("a", CONTENT, status(code), status(code)), target)
    assert server.ranges("a") == [None] * 3
    assert all(f"HTTP {code}" in line for line in lines)


def test_a_server_is_left_alone_as_long_as_it_asks(server, target):
    bring(server.put("a", CONTENT, status(503, Retry_After="1")), target)
    assert server.begun[1] - server.begun[0] >= 1


def test_pauses_grow_to_a_limit_and_differ():
    settings = FetchSettings(pause_seconds=2, max_pause_seconds=30)
    for failures, longest in ((1, 2), (2, 4), (3, 8), (5, 30), (12, 30)):
        pauses = [settings.pause(failures) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_plain_no_is_one_error_at_once(server, target, code):
    url = server.put("a", CONTENT, status(code))
    refused(url, target, rf"{url}: HTTP {code} .*check the `url` of the sheet.*P01_01\.MP4")
    assert server.ranges("a") == [None]


def test_attempts_that_get_nowhere_end_and_what_came_is_kept_for_the_next_run(server, target):
    url = server.put("a", CONTENT, cut(120_000), *[status(503)] * 4)
    refused(url, target, r"HTTP 503 .*given up after 4 attempts .*keeps 120000 bytes")
    assert part_path(target).read_bytes() == CONTENT[:120_000]
    server.asked.clear()
    server.put("a", CONTENT)
    bring(url, target)
    assert server.ranges("a") == ["bytes=120000-"]
    assert target.read_bytes() == CONTENT


def test_a_server_that_never_finishes_is_given_up(server, target):
    url = server.put("a", CONTENT, *[ignoring_cut(200_000)] * 20)
    refused(url, target, r"given up after 4 attempts")
    assert len(server.asked) == 4


def test_a_long_file_may_be_cut_more_often_than_a_dead_one_is_asked(server, target):
    content = CONTENT * 20
    url = server.put("a", content, *[cut(PROGRESS + 1)] * 5)
    md5 = Checksum("md5", hashlib.md5(content).hexdigest())
    bring(url, target, md5, replace(HASTY, tries=2))
    assert target.read_bytes() == content
    assert len(server.asked) == 6


def ignoring_cut(after):
    def fault(handler, content, start):
        cut(after)(handler, content, 0)

    return fault


@pytest.mark.parametrize("extra", [1, 5000])
def test_a_server_that_promises_too_much_is_believed_for_the_md5(server, target, extra):
    bring(server.put("a", CONTENT, *[promise(extra)] * 4), target)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_that_promises_too_little_is_not_believed(server, target):
    url = server.put("a", CONTENT, *[promise(-1000)] * 8)
    refused(url, target, r"md5 \w{32} of 299000 bytes, expected \w{32}, 2 times; nothing was kept")
    assert list(target.parent.iterdir()) == [] or part_state(target)[0] == 0


def test_a_body_without_length_is_held_to_its_md5(server, target):
    bring(server.put("a", CONTENT, without_length), target)
    assert target.read_bytes() == CONTENT


def test_wrong_bytes_are_fetched_once_more_and_then_refused(server, target):
    url = server.put("a", CONTENT, wrong_bytes)
    lines = bring(url, target)
    assert target.read_bytes() == CONTENT and len(lines) == 1 and MD5.value in lines[0]
    target.unlink()
    server.put("a", CONTENT, wrong_bytes, wrong_bytes)
    refused(url, target, r"md5 \w{32} of 300000 bytes, expected \w{32}, 2 times; nothing was kept")
    assert part_state(target)[0] == 0


def test_wrong_bytes_of_an_earlier_run_do_not_spoil_the_file(server, target):
    target.parent.mkdir()
    part_path(target).write_bytes(bytes(1000))
    bring(server.put("a", CONTENT), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges("a") == ["bytes=1000-", None]


@pytest.mark.parametrize("more", [0, 1, 5000], ids=["whole", "a byte more", "much more"])
def test_a_part_with_nothing_to_come_needs_no_byte_more(server, target, more):
    target.parent.mkdir()
    part_path(target).write_bytes(CONTENT + bytes(more))
    bring(server.put("a", CONTENT), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges("a")[0] == f"bytes={len(CONTENT) + more}-"
    assert len(server.asked) == (2 if more else 1)


def test_without_a_checksum_the_length_decides(server, target):
    url = server.put("a", CONTENT, cut(1000))
    bring(url, target, checksum=None)
    assert target.read_bytes() == CONTENT
    target.unlink()
    server.put("a", CONTENT, *[ignoring_cut(1000)] * 9)
    refused(url, target, "given up", checksum=None)


def test_a_server_that_is_not_there_is_reported_in_few_words(server, target):
    url = server.put("a", CONTENT)
    server.shutdown()
    server.server_close()
    refused(url, target, r"NewConnectionError: .*Connection refused; given up after 4 attempts")


@pytest.mark.parametrize("url", ["", "P01_01.MP4", "ftp://x/a", "file:///etc/passwd"])
def test_an_url_that_is_none_is_named(target, url):
    refused(url, target, r"its url is .*expected http:// or https://")


def test_two_processes_do_not_write_one_file(server, target):
    url = server.put("a", CONTENT)
    with claim(target):
        refused(url, target, "another process downloads this file")
    assert server.asked == []
    bring(url, target)


def test_a_part_is_verified_and_sealed_before_it_gets_its_name(server, target):
    sealed = []

    def seal(part):
        assert not target.exists() and part.read_bytes() == CONTENT
        sealed.append(part.stat().st_mtime_ns)

    bring(server.put("a", CONTENT), target, seal=seal)
    assert sealed == [target.stat().st_mtime_ns]


def test_a_killed_download_leaves_no_half_file_and_is_gone_on_with(server, target):
    url = server.put("a", CONTENT * 20, stall(2_500_000))
    program = (
        "import sys; from pathlib import Path; from epic100.download.fetch import fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, url, str(target)]) as process:
        until = time.monotonic() + 20
        while part_state(target)[0] < 2_000_000 and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    kept = part_state(target)[0]
    assert kept >= 2_000_000
    bring(url, target, Checksum("md5", hashlib.md5(CONTENT * 20).hexdigest()))
    assert server.ranges("a") == [None, f"bytes={kept}-"]
