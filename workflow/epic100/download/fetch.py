"""Download a file over HTTP: it is resumed after any interruption, and verified before it is named.

Snakemake's HTTP storage plugin (0.3) does none of this. It requests the header of every URL when
the DAG is built, and copies a body without time limit, resumption or checksum.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from epic100.base.disk import Checksum, digest
from epic100.base.errors import EpicError
from epic100.base.log import Progress
from epic100.base.names import URL_WORDS, is_url
from epic100.download.part import Part, claim
from epic100.download.transfer import NoRangeError, TooLongError, TransferError, get

log = logging.getLogger(__name__)

# A download is given up after TRIES attempts in a row that brought fewer than PROGRESS bytes.
TRIES, PROGRESS = 8, 1 << 20
# A connection is dropped after so many seconds with less than 1 KiB/s.
STALL_SECONDS = 60.0
# These are the first pause between attempts, and the longest one.
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2.0, 120.0
# A file that is longer, or announced as longer, is refused.
MAX_GIB = 64.0
# A download is given up after this many complete files with a wrong checksum.
WHOLE_TRIES = 2
# A longer Retry-After is shortened to this many seconds.
PATIENCE = 3600
# These HTTP statuses mean "too slow", "too early" and "too many requests". They are tried again, as
# all 5xx are.
BUSY = {408, 425, 429}


def pause(failures: int) -> float:
    """Draw the seconds to wait before the next attempt.

    The longest pause doubles with each failure. A random part of it is left out, so that clients
    which failed together do not come back together.

    Args:
        failures: Number of failures in a row, 1 or more.
    """
    longest_pause = min(PAUSE_SECONDS * 2 ** (failures - 1), MAX_PAUSE_SECONDS)
    return longest_pause * random.uniform(0.5, 1.0)


def fetch(
    url: str,
    target: Path,
    checksum: Checksum | None,
    *,
    private_hosts: Sequence[str] = (),
    seal: Callable[[Path], None] = lambda part: None,
) -> None:
    """Download a file, and resume from `{target}.part` if an earlier attempt has left it.

    Without a checksum each attempt begins anew, since the earlier bytes could be of another file.

    Args:
        url: The http(s) URL.
        target: The path of the file.
        checksum: Checksum of the whole file; None: only its length is checked.
        private_hosts: Hosts whose address may be private.
        seal: Called with the path of the verified part just before it is renamed to `target`. If it
            raises an EpicError, the file is refused and removed.

    Raises:
        EpicError: The host is private and not named, the server refuses the file or sends another
            one, or `TRIES` attempts in a row make no progress. The part is kept for the
            next run, unless its checksum was wrong.
    """
    if not is_url(url):
        raise EpicError(f"{target}: its url is {url!r}; expected {URL_WORDS}")
    with claim(target) as part:
        _complete(url, part, checksum, private_hosts)
        try:
            seal(part.path)
        except EpicError:
            part.path.unlink()  # All bytes are there but wrong, so resuming would not help.
            raise
        part.finish()


def _complete(
    url: str, part: Part, checksum: Checksum | None, private_hosts: Sequence[str]
) -> None:
    """Repeat attempts until the part has all bytes of the file, with the right checksum.

    Raises:
        EpicError: See `fetch`.
    """
    # `failures` counts attempts in a row without progress, and `wrong` complete downloads with a
    # wrong checksum. `furthest` is the largest size that the part had.
    failures = wrong = 0
    furthest = part.size
    while True:
        if not checksum:
            part.restart()
        reason, wait = _attempt(url, part, private_hosts)
        part.flush()
        # After a failed attempt without new bytes, the file may still be complete: the server may
        # have announced too many bytes.
        if not reason or (checksum and 0 < part.size <= furthest):
            actual = digest(part.path, checksum.kind) if checksum else None
            if actual == checksum:
                return
            if checksum and not reason:
                reason = f"{actual} of {part.size} bytes, expected {checksum.value}"
                wrong += 1
                part.restart()
        failures = 1 if part.size >= furthest + PROGRESS else failures + 1
        furthest = max(furthest, part.size)
        if wrong >= WHOLE_TRIES:
            raise EpicError(
                f"{url}: {reason}, {wrong} times; nothing was kept of it; the server has "
                "another file than the sheet says: correct the sheet, or put the right "
                f"file at {part.target}"
            )
        if failures >= TRIES:
            raise EpicError(
                f"{url}: {reason}; given up after {failures} attempts that got nowhere; "
                f"{part.path} keeps {part.size} bytes, and the next run goes on from there"
            )
        wait = max(pause(failures), wait)
        log.info(f"{part.target.name}: {reason}; once more from {part.size} bytes in {wait:.1f} s")
        time.sleep(wait)


def _attempt(url: str, part: Part, private_hosts: Sequence[str]) -> tuple[str, float]:
    """Request the missing bytes once; if the server sends no range, request the whole file.

    Returns:
        The reason why the attempt failed, and the seconds for which the server asks to wait;
        ("", 0.0) if the server has nothing more to send.

    Raises:
        EpicError: The server will not send the file to any other attempt either.
    """
    try:
        _request(url, part, private_hosts)
    except NoRangeError:
        log.info(f"{part.target.name}: the server does not go on from {part.size} bytes")
        part.restart()
        return _attempt(url, part, private_hosts)
    except TooLongError:
        part.restart()
        raise
    except TransferError as error:
        # With such a status, the server will refuse the next request too.
        if 400 <= error.status < 500 and error.status not in BUSY:
            raise EpicError(
                f"{url}: {error}; expected the file; check the `url` of the sheet, or put "
                f"the file at {part.target} by other means"
            ) from error
        return str(error), min(error.wait, PATIENCE)
    return "", 0.0


def _request(url: str, part: Part, private_hosts: Sequence[str]) -> None:
    """Request the missing bytes of a part, and append them with a progress bar."""
    start = part.size
    with closing(Progress(part.target.stem, 0, "MB")) as progress:

        def watch(total: int, received: int) -> None:
            """Check that the disk has room for the rest, and move the progress bar."""
            part.require_room(total - received)
            progress.expect((start + total) / 1e6)
            progress.update(part.size / 1e6 - progress.done)

        get(
            url,
            part.write,
            start=start,
            private_hosts=private_hosts,
            stall_seconds=STALL_SECONDS,
            max_gib=MAX_GIB,
            watch=watch,
        )
