"""Download one file over HTTP: resumed after any interruption, verified before it gets its name.

Snakemake's HTTP storage plugin (0.3) does none of this. It requests the header of every URL when
the DAG is built, and copies a body without time limit, resumption or checksum.
"""

import http.client
import ipaddress
import logging
import random
import re
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from epic100.base.disk import Checksum, digest
from epic100.base.errors import EpicError
from epic100.base.log import Progress
from epic100.base.names import URL_WORDS, is_url, whole_number
from epic100.download.part import Part, claim

log = logging.getLogger(__name__)

AGENT = "epic100-workflow (EPIC-KITCHENS-100 action recognition)"
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
    private_hosts: Sequence[str] = (),
    settings: FetchSettings = USUAL,
    seal: Callable[[Path], None] = lambda part: None,
) -> None:
    """Download `url` to `target`, resuming from `target`.part if an earlier attempt left one.

    Args:
        url: The http(s) URL.
        target: Where the file goes.
        checksum: Checksum of the whole file; with None, only its length is checked.
        private_hosts: Hosts whose address may be private.
        settings: How patient it is.
        seal: Called with the verified part just before it is renamed to `target`. An EpicError of
            it refuses the file.

    Raises:
        EpicError: The host is private and not named, the server refuses the file or sends another
            one, or `settings.tries` attempts in a row make no progress. The part is kept for the
            next run, unless its checksum was wrong.
    """
    if not is_url(url):
        raise EpicError(f"{target}: its url is {url!r}; expected {URL_WORDS}")
    host = urlsplit(url).hostname or ""
    if host not in private_hosts and (private := _private(host)):
        raise EpicError(
            f"{target}: its url {url} leads to the private address {private}; expected a server of "
            f"the web; if that is right, add {host} to `videos: private_hosts:`"
        )
    with claim(target) as part, CarefulSession(url) as session:
        failures, wrong, furthest = 0, 0, part.size
        while True:
            reason, wait = "", 0.0
            try:
                _attempt(session, url, part, settings)
            except (_Again, *TROUBLE) as error:
                reason, wait = _words(error), getattr(error, "wait", 0.0)
            part.flush()
            # The server may have announced too many bytes. Then the file is complete already.
            if not reason or (checksum and 0 < part.size <= furthest):
                found = digest(part.path, checksum.kind) if checksum else None
                if found == checksum:
                    break
                if checksum and not reason:
                    reason = f"{found} of {part.size} bytes, expected {checksum.value}"
                    wrong += 1
                    part.restart()
            failures = 1 if part.size >= furthest + PROGRESS else failures + 1
            furthest = max(furthest, part.size)
            if wrong >= WHOLE_TRIES:
                raise EpicError(
                    f"{url}: {reason}, {wrong} times; nothing was kept of it; the server has "
                    "another file than the sheet says: correct the sheet, or put the right "
                    f"file at {target}"
                )
            if failures >= settings.tries:
                raise EpicError(
                    f"{url}: {reason}; given up after {failures} attempts that got nowhere; "
                    f"{part.path} keeps {part.size} bytes, and the next run goes on from there"
                )
            pause = max(settings.pause(failures), wait)
            log.info(f"{target.name}: {reason}; once more from {part.size} bytes in {pause:.1f} s")
            time.sleep(pause)
        try:
            seal(part.path)
        except EpicError:
            part.path.unlink()  # complete but wrong, so resuming would not help
            raise
        part.finish()


def _attempt(session: requests.Session, url: str, part: Part, settings: FetchSettings) -> None:
    """Request the missing bytes once. Returns when the server has nothing more to send."""
    headers = {}
    if part.size:  # if the file has changed since (If-Range), the server sends all of it
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    try:
        response = session.get(
            url, headers=headers, stream=True, timeout=(settings.stall_seconds,) * 2
        )
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise EpicError(f"{part.target}: its url is {url!r}; {error}") from error
    with response:
        status, words = response.status_code, f"HTTP {response.status_code} {response.reason or ''}"
        start, length = _range_of(response)
        if status in BUSY or status >= 500:
            raise _Again(words.strip(), _asked_to_wait(response))
        if status == 416:
            if length == part.size:
                return  # the server has no bytes after ours
            part.restart()
            raise _Again("the server does not say that its file ends where ours does")
        if status not in (200, 206):
            raise EpicError(
                f"{url}: {words.strip()}; expected the file; check the `url` of the sheet, or put "
                f"the file at {part.target} by other means"
            )
        if status == 206 and start != part.size:
            part.restart()
            raise _Again(f"the server sent bytes from {start} on where others were asked for")
        if status == 200:  # the whole file, even if only a range was requested
            part.restart()
            length = whole_number(response.headers.get("Content-Length", ""))
        if length is not None and length > settings.max_gib * 2**30:
            raise _too_long(url, f"is said to have {length / 2**30:.0f} GiB", settings)
        tag = response.headers.get("ETag", "")
        # RFC 9110, 13.1.5: a weak tag does not guarantee identical bytes.
        part.promise(length, tag if tag[:1] == '"' else response.headers.get("Last-Modified"))
        with closing(Progress(part.target.stem, (length or 0) / 1e6, "MB")) as progress:
            _receive(response, part, settings, progress)
    if part.length is not None and part.size < part.length:
        raise _Again(f"cut at {part.size} of {part.length} bytes")


def _receive(
    response: requests.Response, part: Part, settings: FetchSettings, progress: Progress
) -> None:
    since, before = time.monotonic(), part.size
    # read1 returns what has arrived. A full read would wait until a slow server fills a chunk.
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        part.write(chunk)
        progress.update(part.size / 1e6 - progress.done)
        if part.size > settings.max_gib * 2**30:
            part.restart()
            raise _too_long(response.url, "goes on and on", settings)
        spent, came = time.monotonic() - since, part.size - before
        if spent >= settings.stall_seconds:
            if came < LEAST_RATE * spent:
                raise _Again(f"{came} bytes in {spent:.0f} s, too slow")
            since, before = time.monotonic(), part.size


def _too_long(url: str, why: str, settings: FetchSettings) -> EpicError:
    return EpicError(
        f"{url}: its file {why}, at most {settings.max_gib:g} GiB are taken; nothing was kept of it"
    )


def _range_of(response: requests.Response) -> tuple[int | None, int | None]:
    """Parse Content-Range into (first byte, total bytes); None for a missing number."""
    text = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes\s+(?:(\d+)-\d+|\*)/(\d+|\*)", text.strip())
    return (whole_number(found[1] or ""), whole_number(found[2])) if found else (None, None)


def _asked_to_wait(response: requests.Response) -> float:
    try:
        return min(urllib3.Retry().get_retry_after(response.raw) or 0.0, PATIENCE)
    except Exception:  # anything can stand in a header, such as a number of 5000 digits
        return 0.0


def _words(error: BaseException) -> str:
    """Describe an error briefly: libraries nest errors, and only the innermost is informative."""
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            return _words(inner)
    name, text = type(error).__name__, " ".join(str(error).split())
    return text if isinstance(error, _Again) or text.startswith(name) else f"{name}: {text}"


class CarefulSession(requests.Session):
    """A session that raises EpicError for an unsafe redirect.

    Unsafe is http after https, another scheme, or a private address that is not the host of the
    URL that is requested.

    Args:
        url: The URL that will be requested.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.headers.update({"User-Agent": AGENT, "Accept-Encoding": "identity"})
        self.auth = lambda request: request  # none; without any, requests looks into ~/.netrc
        self._first = url

    def rebuild_auth(self, *_: Any) -> None:
        """Do nothing: a redirect gets no password of ~/.netrc either."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where `resp` redirects to, after a check; requests calls this per redirect."""
        target = super().get_redirect_target(resp)
        if target is not None:
            check_redirect(self._first, resp.url, urljoin(resp.url, target))
        return target


def check_redirect(first: str, before: str, target: str) -> None:
    """Check that a redirect may be followed.

    Args:
        first: The URL that was requested first.
        before: The URL that answers with the redirect.
        target: Where it leads, as an absolute URL.

    Raises:
        EpicError: It must not be followed.
    """
    host = urlsplit(target).hostname
    if not is_url(target.partition("#")[0]) or host is None:
        why = f"which is no address to fetch from; expected {URL_WORDS}"
    elif urlsplit(before).scheme == "https" and urlsplit(target).scheme == "http":
        why = "which is not encrypted"
    elif host != urlsplit(first).hostname and (private := _private(host)):
        why = f"which is the private address {private}"
    else:
        return
    raise EpicError(
        f"{first}: its server leads to {target[:200]!r}, {why}; not followed; if that is right, "
        "put that url into the sheet"
    )


def _private(host: str) -> str:
    """Return the first address of `host` that is not public, or ""."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):  # a proxy may resolve it; without a proxy the request fails
        return ""
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in sorted(found)]
    mapped = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    return next((str(a) for a in mapped if not a.is_global or a.is_multicast), "")
