"""Download a file over HTTP by libcurl: it is resumed after any interruption, and verified.

Snakemake's HTTP storage plugin (0.3) does none of this. It requests the header of every URL when
the DAG is built, and copies a body without time limit, resumption or checksum.

pycurl is imported only when a request begins, since the rules and other jobs import this module.
"""

import logging
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from epic100.base.atomic import writing
from epic100.base.disk import Checksum, digest
from epic100.base.errors import URL_WORDS, EpicError, is_url
from epic100.base.lock import lock
from epic100.base.log import Progress

log = logging.getLogger(__name__)

# A download is given up after this number of hours, pauses included.
HOURS = 24.0
# It is given up after TRIES attempts in a row that brought fewer than PROGRESS bytes.
TRIES, PROGRESS = 8, 1 << 20
# It is given up after this number of complete files with a wrong checksum.
WRONG_TRIES = 2
# A file that is longer, or announced as longer, is rejected.
MAX_GIB = 64.0
# A connection is dropped after STALL_SECONDS with fewer bytes per second.
STALL_SECONDS, MIN_BYTES_PER_SECOND = 60, 1024
# The first pause between attempts, and the longest one, in seconds.
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2.0, 120.0
# A longer Retry-After is shortened to this number of seconds.
PATIENCE = 3600
# These HTTP statuses mean "too slow", "too early" and "too many requests". They are tried again, as
# all 5xx are.
BUSY = {408, 425, 429}
# These environment variables may name a file of certificate authorities, as for other programs.
CA_BUNDLE_VARIABLES = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
# The number of libcurl's option CURLOPT_DISALLOW_USERNAME_IN_URL, for which pycurl has no name.
DISALLOW_USERNAME_IN_URL = 278


def fetch(
    url: str,
    target: Path,
    checksum: Checksum | None,
    *,
    seal: Callable[[Path], None] = lambda part: None,
) -> None:
    """Download a file, and resume from `{target}.part` if an earlier attempt has left it.

    Without a checksum each attempt begins anew, since the earlier bytes could be of an earlier
    version.

    Args:
        url: The http(s) URL.
        target: The path of the file.
        checksum: Checksum of the complete file; None: only its length is checked.
        seal: Called with the path of the verified part just before it is renamed to `target`. If it
            raises an EpicError, the file is rejected and removed.

    Raises:
        EpicError: Another process downloads the file, the server rejects it or sends another one,
            `TRIES` attempts in a row make no progress, or `HOURS` are over. The part is kept for
            the next run, unless its checksum was wrong.
        DiskError: The bytes cannot be written to the disk. Those written before are kept.
    """
    if not is_url(url):
        raise EpicError(f"{target}: its url is {url!r}; expected {URL_WORDS}")
    part = part_path(target)
    part.parent.mkdir(parents=True, exist_ok=True)
    with writing(part), open(part, "ab") as file:
        # If another process has finished in the meantime, this file has its final name by now.
        if not (
            lock(file, waits=False) and part.exists() and os.path.samefile(part, file.fileno())
        ):
            raise EpicError(f"{part}: another process downloads this file; run again when it ended")
        with closing(Progress(target.stem, 0, "MB")) as progress:
            _Download(url, target, checksum, file, progress).complete()
        try:
            seal(part)
        except EpicError:
            part.unlink()  # All bytes are there but wrong, so resuming would not help.
            raise
        os.replace(part, target)


def part_path(target: Path) -> Path:
    """Return the path `{name}.part` that keeps the bytes of `target` until they are verified."""
    return target.with_name(f"{target.name}.part")


def rejection(url: str, seconds: int) -> str:
    """Ask a server for a file, and end as soon as its first byte comes.

    Args:
        url: The http(s) URL.
        seconds: The time in which the first byte must come.

    Returns:
        Why the server does not send the file; "" if it does.
    """
    import pycurl

    # A piece of which no byte is taken ends the request.
    answer = _request(url, {pycurl.TIMEOUT: seconds, pycurl.WRITEFUNCTION: lambda piece: 0})
    return "" if answer.code == pycurl.E_WRITE_ERROR else answer.failure


class _Download:
    """The attempts to get all bytes of a file into its part.

    Attributes:
        start: Number of bytes that the part had before the last request.
        headers: The headers of its answer, with their names in lower case.
        version: ETag, Last-Modified and total length of the file that the bytes in the part are of;
            () if they are of an earlier run, or there are none.
        disk_error: The error that ended the request, since its bytes could not be written.
    """

    def __init__(
        self, url: str, target: Path, checksum: Checksum | None, file: BinaryIO, progress: Progress
    ):
        """Prepare the first attempt; `file` is the open part, the rest as for `fetch`."""
        self.url, self.target, self.checksum = url, target, checksum
        self.file, self.progress, self.start = file, progress, 0
        self.headers, self.version = dict[str, str](), tuple[str, ...]()
        self.disk_error: OSError | None = None

    def complete(self) -> None:
        """Repeat attempts until the part has all bytes of the file, with the right checksum.

        Raises:
            EpicError, OSError: See `fetch`.
        """
        # Attempts in a row without progress; and complete downloads with a wrong checksum.
        failures, wrong_count = 0, 0
        # The largest size that the part had, in bytes.
        furthest = self.file.tell()
        started = time.monotonic()
        while True:
            if not self.checksum:
                self._restart()
            answer = self._attempt(HOURS * 3600 - (time.monotonic() - started))
            failure = answer.failure
            if not failure:
                # The server has nothing more to send.
                actual = digest(self.file.name, self.checksum.algorithm) if self.checksum else None
                if actual == self.checksum:
                    return
                failure = f"{actual} of {self.file.tell()} bytes, expected {self.checksum}"
                wrong_count += 1
                self._restart()
            size = self.file.tell()
            failures = 1 if size >= furthest + PROGRESS else failures + 1
            furthest = max(furthest, size)
            # The pause doubles with each failure. A random part of it is left out, so that clients
            # which failed together do not come back together.
            pause = min(PAUSE_SECONDS * 2 ** (failures - 1), MAX_PAUSE_SECONDS)
            wait = max(pause * random.uniform(0.5, 1.0), answer.wait_seconds)
            spent = time.monotonic() - started
            if wrong_count >= WRONG_TRIES or failures >= TRIES or spent + wait > HOURS * 3600:
                raise EpicError(
                    f"{self.url}: {failure}; given up after attempt {failures} of {TRIES} without "
                    f"progress, {spent / 3600:.1f} of {HOURS:g} hours; {self.file.name} keeps "
                    f"{size} bytes; check url and checksum and run again, or put the file at "
                    f"{self.target} by other means"
                )
            log.info(f"{self.target.name}: {failure}; once more from {size} bytes in {wait:.1f} s")
            time.sleep(wait)

    def _attempt(self, seconds: float) -> "_Answer":
        """Request the missing bytes once, and append them to the part.

        Args:
            seconds: The time that the request may take.

        Returns:
            What came of the request. If it did not fail, the server has nothing more to send.

        Raises:
            OSError: The bytes cannot be written.
        """
        import pycurl

        self.start = self.file.tell()
        options = {
            pycurl.TIMEOUT_MS: max(1, int(1000 * seconds)),
            pycurl.RESUME_FROM_LARGE: self.start,
            pycurl.MAXFILESIZE_LARGE: max(1, int(MAX_GIB * 2**30) - self.start),
            pycurl.HEADERFUNCTION: self._note,
            pycurl.WRITEFUNCTION: self._take,
            pycurl.XFERINFOFUNCTION: self._show,
        }
        answer = _request(self.url, options)
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.disk_error:
            raise self.disk_error
        # A failure without an error of libcurl is an answer that is no file, such as a page.
        begin_anew = (0, pycurl.E_WRITE_ERROR, pycurl.E_RANGE_ERROR, pycurl.E_FILESIZE_EXCEEDED)
        if answer.failure and answer.code in begin_anew:
            self._restart()
        return answer

    def _note(self, line: bytes) -> None:
        """Note a header of the answer."""
        if line.startswith(b"HTTP/"):  # Another answer begins, such as one after a redirect.
            self.headers.clear()
        name, _, value = line.decode("latin-1").partition(":")
        self.headers[name.lower()] = value.strip()

    def _take(self, piece: bytes) -> int:
        """Append a piece of the body; return how many bytes were taken: 0 ends the request."""
        # Content-Range is `bytes 100-199/200` if a part of the file comes.
        length = self.headers.get("content-range", self.headers.get("content-length", ""))
        names = self.headers.get("etag", ""), self.headers.get("last-modified", "")
        version = (*names, length.rpartition("/")[2])
        self.version = self.version or version
        try:
            return self.file.write(piece) if self.version == version else 0
        except OSError as error:  # A callback that raises it would end in a printed traceback.
            self.disk_error = error
            return 0

    def _show(self, total: int, *_: int) -> None:
        """Move the progress bar; libcurl calls this each second with the bytes that it expects."""
        self.progress.expect((self.start + total) / 1e6)
        self.progress.update(self.file.tell() / 1e6 - self.progress.done)

    def _restart(self) -> None:
        """Discard all received bytes."""
        self.file.seek(0)
        self.file.truncate()
        self.version = ()


class _Answer(NamedTuple):
    """What came of a request.

    Attributes:
        code: libcurl's number of the error; 0 if there was none.
        failure: Why the request failed; "" if it did not.
        wait_seconds: For how long the server asks to wait (Retry-After); infinite if the next
            request would fail too.
    """

    code: int
    failure: str
    wait_seconds: float


def _request(url: str, options: Mapping[int, Any]) -> _Answer:
    """Make a GET request by libcurl, following redirects.

    Args:
        url: The http(s) URL.
        options: Options of libcurl, added to the ones that each request has.
    """
    import certifi
    import pycurl

    protocols = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
    ca_bundle = certifi.where()
    # The first variable that is set wins.
    for name in reversed(CA_BUNDLE_VARIABLES):
        ca_bundle = os.environ.get(name) or ca_bundle
    common_options = {
        pycurl.URL: url,
        pycurl.PROTOCOLS: protocols,
        # A redirect must not lead from https to http, where the content could be replaced.
        pycurl.REDIR_PROTOCOLS: pycurl.PROTO_HTTPS if url.startswith("https:") else protocols,
        DISALLOW_USERNAME_IN_URL: True,
        pycurl.FOLLOWLOCATION: True,
        pycurl.FAILONERROR: True,
        pycurl.CAINFO: ca_bundle,
        pycurl.USERAGENT: "epic100-workflow (EPIC-KITCHENS-100 action recognition)",
        pycurl.CONNECTTIMEOUT: STALL_SECONDS,
        pycurl.LOW_SPEED_LIMIT: MIN_BYTES_PER_SECOND,
        pycurl.LOW_SPEED_TIME: STALL_SECONDS,
        pycurl.NOSIGNAL: True,
        pycurl.NOPROGRESS: False,  # With False, XFERINFOFUNCTION is called.
    }
    curl, code, failure = pycurl.Curl(), 0, ""
    for option, value in (common_options | dict(options)).items():
        curl.setopt(option, value)
    try:
        curl.perform()
    except pycurl.error as error:
        code, failure = error.args
    # What the failure is called. After a status below 500, or an error of `final`, the next request
    # would fail too.
    status = curl.getinfo(pycurl.RESPONSE_CODE)
    last_url = curl.getinfo(pycurl.EFFECTIVE_URL)[:200]
    # A resumed download gets 206 (partial content), or 416 if no byte is left.
    expected = (206, 416) if options.get(pycurl.RESUME_FROM_LARGE) else (200,)
    not_followed = f"leads to {last_url!r}, which is not followed: {failure}"
    final = {
        pycurl.E_FILESIZE_EXCEEDED: f"longer than {MAX_GIB:g} GiB",
        pycurl.E_UNSUPPORTED_PROTOCOL: not_followed,
        pycurl.E_URL_MALFORMAT: not_followed,
        pycurl.E_LOGIN_DENIED: not_followed,
    }
    if code in final:
        failure = final[code]
    elif code == pycurl.E_WRITE_ERROR:
        failure = "the server has another version of the file by now"
    elif code == pycurl.E_HTTP_RETURNED_ERROR or (code == 0 and status not in expected):
        failure = f"HTTP {status}"
    wait_seconds = float(min(curl.getinfo(pycurl.RETRY_AFTER), PATIENCE))
    is_rejected = code == pycurl.E_HTTP_RETURNED_ERROR and status < 500 and status not in BUSY
    if is_rejected or code in final:
        wait_seconds = math.inf
    return _Answer(code, failure, wait_seconds)
