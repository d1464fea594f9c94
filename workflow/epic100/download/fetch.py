"""Download one file over HTTP: resumed after any interruption, verified before it gets its name.

Snakemake's HTTP storage plugin (0.3) does none of this. It requests the header of every URL when
the DAG is built, and copies a body without time limit, resumption or checksum.
"""

import http.client
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from epic100.base.checksum import Checksum, digest
from epic100.base.errors import EpicError
from epic100.base.names import URL_WORDS, is_url, whole_number
from epic100.download.part import Part, claim
from epic100.download.session import CarefulSession

log = logging.getLogger(__name__)

CHUNK = 1 << 20
PROGRESS = 1 << 20  # bytes; an attempt that brings fewer made no progress
LEAST_RATE = 1024  # bytes per second; a slower connection is dropped
WHOLE_TRIES = 2  # complete downloads with a wrong checksum before giving up
PATIENCE = 3600  # seconds; the longest Retry-After that is respected

BUSY = {408, 425, 429}  # too slow, too early, too many requests; tried again, as all 5xx are
TROUBLE = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)

Watch = Callable[[int, int | None], None]


@dataclass(frozen=True)
class FetchSettings:
    """How patient a download is, and how long a file may be.

    Attributes:
        tries: Attempts in a row without progress before a file is given up.
        stall_seconds: Silence after which a connection is dropped.
        pause_seconds: First pause between attempts. Each further pause is twice as long, minus a
            random part of it.
        max_pause_seconds: Longest pause.
        max_gib: A file that is longer, or announced as longer, is refused.
    """

    tries: int = 8
    stall_seconds: float = 60.0
    pause_seconds: float = 2.0
    max_pause_seconds: float = 120.0
    max_gib: float = 64.0

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after `failures` (1 or more) failures in a row."""
        longest = min(self.pause_seconds * 2 ** (failures - 1), self.max_pause_seconds)
        return longest * random.uniform(0.5, 1.0)


USUAL = FetchSettings()


class _Again(Exception):
    """An attempt failed, but the next may succeed; `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str,
    target: Path,
    checksum: Checksum | None,
    *,
    settings: FetchSettings = USUAL,
    watch: Watch = lambda size, length: None,
    seal: Callable[[Path], None] = lambda part: None,
) -> None:
    """Download `url` to `target`, resuming from `target`.part if an earlier attempt left one.

    Args:
        url: The http(s) URL.
        target: Where the file goes.
        checksum: Checksum of the whole file; with None, only its length is checked.
        settings: How patient it is.
        watch: Called with (bytes so far, total bytes or None) as data arrive.
        seal: Called with the verified part just before it is renamed to `target`.

    Raises:
        EpicError: The server refuses the file or sends another one, or `settings.tries` attempts
            in a row make no progress. The part is kept for the next run, unless its checksum was
            wrong.
    """
    if not is_url(url):
        raise EpicError(f"{target}: its url is {url!r}; expected {URL_WORDS}")
    with claim(target) as part, CarefulSession() as session:
        failures, wrong, furthest = 0, 0, part.size
        while True:
            try:
                if not part.size or part.size != part.length:
                    _attempt(session, url, part, settings, watch)
                fault = _fault(part, checksum)
                if not fault:
                    break
                wrong += 1
                part.restart()
                raise _Again(fault)
            except (_Again, *TROUBLE) as error:
                reason = _words(error)
                part.flush()
                got_on = part.size >= furthest + PROGRESS
                failures = 1 if got_on else failures + 1
                # The server announced too many bytes: the file may be complete already.
                if part.size and part.size <= furthest and checksum and not _fault(part, checksum):
                    break
                furthest = max(furthest, part.size)
                if wrong >= WHOLE_TRIES:
                    raise EpicError(
                        f"{url}: {reason}, {wrong} times; nothing was kept of it; the server has "
                        "another file than the sheet says: correct the sheet, or put the right "
                        f"file at {target}"
                    ) from error
                if failures >= settings.tries:
                    raise EpicError(
                        f"{url}: {reason}; given up after {failures} attempts that got nowhere; "
                        f"{part.path} keeps {part.size} bytes, and the next run goes on from there"
                    ) from error
                pause = max(settings.pause(failures), getattr(error, "wait", 0.0))
                log.info(
                    f"{target.name}: {reason}; once more from {part.size} bytes in {pause:.1f} s"
                )
                time.sleep(pause)
        part.flush()
        seal(part.path)
        part.finish()


def _attempt(
    session: requests.Session, url: str, part: Part, settings: FetchSettings, watch: Watch
) -> None:
    """Request the missing bytes once. Returns when the server has nothing more to send."""
    headers = {}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.validator:
            headers["If-Range"] = part.validator  # if the file has changed, the server sends all
    try:
        response = session.get(
            url, headers=headers, stream=True, timeout=(settings.stall_seconds,) * 2
        )
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise EpicError(f"{part.target}: its url is {url!r}; {error}") from error
    with response:
        if response.status_code == 416:  # the server has no bytes after ours
            if _range_of(response)[1] not in (None, part.size):
                part.restart()
                raise _Again("the server's file is shorter than what came before")
            return
        _refuse(response, url, part)
        if response.status_code == 206:
            start, length = _range_of(response)
            if start != part.size:
                part.restart()
                raise _Again(f"the server sent bytes from {start} on where others were asked for")
        else:  # the whole file, even if only a range was requested
            part.restart()
            length = _number(response.headers.get("Content-Length"))
        if length is not None and length > settings.max_gib * 2**30:
            raise _too_long(url, f"is said to have {length / 2**30:.0f} GiB", settings)
        part.promise(length, _validator(response))
        _receive(response, part, settings, watch)
    if part.length is not None and part.size < part.length:
        raise _Again(f"cut at {part.size} of {part.length} bytes")


def _receive(
    response: requests.Response, part: Part, settings: FetchSettings, watch: Watch
) -> None:
    since, came = time.monotonic(), 0
    # read1 returns what has arrived. A full read would wait until a slow server fills a chunk.
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        part.append(chunk)
        watch(part.size, part.length)
        if part.size > settings.max_gib * 2**30:
            part.restart()
            raise _too_long(response.url, "goes on and on", settings)
        came += len(chunk)
        spent = time.monotonic() - since
        if spent >= settings.stall_seconds:
            if came < LEAST_RATE * spent:
                raise _Again(f"{came} bytes in {spent:.0f} s, too slow")
            since, came = time.monotonic(), 0


def _too_long(url: str, why: str, settings: FetchSettings) -> EpicError:
    return EpicError(
        f"{url}: its file {why}, at most {settings.max_gib:g} GiB are taken; nothing was kept of it"
    )


def _refuse(response: requests.Response, url: str, part: Part) -> None:
    """Raise if the response is no file: _Again for a busy server, EpicError for a final refusal."""
    status = response.status_code
    if status in (200, 206):
        return
    words = f"HTTP {status} {response.reason or ''}".strip()
    if status in BUSY or status >= 500:
        raise _Again(words, _asked_to_wait(response))
    raise EpicError(
        f"{url}: {words}; expected the file; check the `url` of the sheet, or put the file at "
        f"{part.target} by other means"
    )


def _fault(part: Part, checksum: Checksum | None) -> str:
    """Say what is wrong with the downloaded bytes, or return ""."""
    part.flush()
    if checksum is None:
        return ""
    found = digest(part.path, checksum.kind)
    return "" if found == checksum else f"{found} of {part.size} bytes, expected {checksum.value}"


def _range_of(response: requests.Response) -> tuple[int | None, int | None]:
    """Parse Content-Range into (first byte, total bytes); None for a missing number."""
    text = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes\s+(?:(\d+)-\d+|\*)/(\d+|\*)", text.strip())
    return (_number(found[1]), _number(found[2])) if found else (None, None)


def _number(text: str | None) -> int | None:
    return whole_number(text or "")


def _validator(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    # RFC 9110, 13.1.5: a weak tag does not guarantee identical bytes.
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _asked_to_wait(response: requests.Response) -> float:
    try:
        wait = urllib3.Retry().parse_retry_after(response.headers["Retry-After"])
    except (KeyError, urllib3.exceptions.InvalidHeader):
        return 0.0
    return min(max(wait, 0.0), PATIENCE)


def _words(error: Exception) -> str:
    """Describe an error briefly: libraries nest errors, and only the innermost is informative."""
    if isinstance(error, _Again):
        return str(error)
    inner: BaseException = error
    while True:
        reason = getattr(inner, "reason", None)
        nested = [a for a in (reason, *inner.args) if isinstance(a, BaseException)]
        if not nested:
            break
        inner = nested[0]
    name, text = type(inner).__name__, " ".join(str(inner).split())
    return text if text.startswith(name) else f"{name}: {text}"
