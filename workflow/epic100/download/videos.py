"""The files of an archive: downloaded, and checked against the sheet's md5s.

A file is read once. Its receipt holds its md5 as long as path, size and modification time are the
same. A failing disk is not the file's fault: it is tried again, and then ends the check with an
error after all other files. No row is written from such a read.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.disk import Checksum, digest, insist
from epic100.base.errors import DiskError, EpicError
from epic100.base.log import Progress
from epic100.base.text_table import read_own_table, write_table
from epic100.download.fetch import USUAL, FetchSettings, fetch
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

VERIFIED, WRONG, UNVERIFIED = "verified", "wrong", "unverified"
UNREADABLE, MISSING = "unreadable", "missing"
STATES = (VERIFIED, WRONG, UNVERIFIED, UNREADABLE, MISSING)
# Snakemake touches the outputs of a job, so a downloaded file is a little newer than its receipt.
TOUCH_SECONDS = 600
NAMED = 5  # videos that an error names, at most


@dataclass(frozen=True)
class Verdict:
    """Result of the md5 check of one video.

    Attributes:
        video_id: The video.
        status: One of `STATES`.
        size: Bytes.
        md5: Of the file; "" if it was not read.
        reason: Why the status is not `verified`.
    """

    video_id: str
    status: str
    size: int = 0
    md5: str = ""
    reason: str = ""


COLUMNS = tuple(f.name for f in fields(Verdict))


def download_video(
    video: Video,
    root: str | os.PathLike,
    receipts: str | os.PathLike,
    *,
    private_hosts: Sequence[str] = (),
    settings: FetchSettings = USUAL,
) -> None:
    """Download `video` and write a receipt, so that it is not read again.

    Args:
        video: The video, with its URL.
        root: Folder of the videos.
        receipts: Folder of receipts.
        private_hosts: As of `fetch`.
        settings: How patient it is.

    Raises:
        EpicError: A file of that name exists, which a download must not overwrite; or as in
            `fetch`.
    """
    path = video.path(root)
    if os.path.lexists(path):
        raise EpicError(
            f"{path}: there already; a download writes over nothing: run again to have it "
            "verified, or remove it to have it fetched"
        )
    checksum = Checksum("md5", video.md5.lower()) if video.md5 else None

    def seal(part: Path) -> None:
        md5 = (checksum or digest(part, "md5")).value
        write_receipt(video, root, receipts, md5, part)

    fetch(
        video.url, path, checksum, private_hosts=private_hosts, settings=settings, seal=seal
    )  # fmt: skip
    held = "md5 as the sheet says" if checksum else "the sheet has no md5 to hold it to"
    log.info(f"{video.video_id}: {held}")


def md5_of(video: Video, root: str | os.PathLike, receipts: str | os.PathLike) -> str | None:
    """Return the md5 of a video's file if it was read before and has not changed since.

    Args:
        video: The video.
        root: Folder of the videos.
        receipts: Folder of the receipts, one a video; it is kept between runs.

    Raises:
        DiskError: The disk fails. It must not make a verified file look unread.
    """
    path, receipt = video.file(root), _receipt_path(video, receipts)
    try:
        noted = json.loads(insist(receipt, "reading", receipt.read_bytes))
        state = path.stat()
        later = state.st_mtime_ns - noted["mtime_ns"]
        touched = noted["fetched"] and 0 < later < TOUCH_SECONDS * 10**9
        same = (noted["path"], noted["size"]) == (str(path.resolve()), state.st_size)
        return noted["md5"] if same and (later == 0 or touched) else None
    except DiskError:
        raise
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_receipt(
    video: Video,
    root: str | os.PathLike,
    receipts: str | os.PathLike,
    md5: str,
    part: Path | None = None,
) -> None:
    """Store the md5 of a video's file.

    Args:
        video: The video.
        root: Folder of the videos.
        receipts: Folder of the receipts.
        md5: Lower-case hex.
        part: The downloaded part that is about to become the file; None if the file exists.
    """
    path = video.file(root)
    state = (part or path).stat()
    receipt = {
        "path": str(path.resolve()),
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "md5": md5,
        "fetched": part is not None,
    }
    write_text(_receipt_path(video, receipts), json.dumps(receipt))


def _receipt_path(video: Video, receipts: str | os.PathLike) -> Path:
    return Path(receipts) / f"{video.video_id}.json"


def verify_videos(
    videos: Sequence[Video],
    root: str | os.PathLike,
    table: str | os.PathLike,
    receipts: str | os.PathLike,
    *,
    threads: int = 1,
) -> list[Verdict]:
    """Compare videos with the sheet's md5s and write the results.

    Args:
        videos: The videos to check.
        root: Folder of the videos.
        table: Tab-separated table to write, with `COLUMNS`, one row per video.
        receipts: Folder of receipts; a file with a valid receipt is not read again.
        threads: How many files to read at the same time.

    Raises:
        DiskError: The disk fails. The message names the files; the receipts of others are kept.
    """
    unread = [
        video.file(root).stat().st_size
        for video in videos
        if video.md5 and video.file(root).is_file() and not md5_of(video, root, receipts)
    ]
    bar = Progress(f"verify {Path(table).stem}", sum(unread) / 1e6, "MB")

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        checks = [pool.submit(_check, video, root, receipts, bar) for video in videos]
    bar.close()
    errors = [check.exception() for check in checks]
    if failed := [str(error) for error in errors if isinstance(error, DiskError)]:
        raise DiskError(
            f"{table}: not written: the disk failed for {len(failed)} videos: "
            f"{'; '.join(failed)}; what was read before is kept"
        )
    verdicts = [check.result() for check in checks]
    write_table(table, COLUMNS, map(astuple, verdicts))
    for verdict in verdicts:
        if verdict.status != VERIFIED:
            log.info(f"{verdict.video_id}: {verdict.status}: {verdict.reason}")
    log.info(f"{_counts(verdicts)}; {len(unread)} of them read now")
    return verdicts


def _check(
    video: Video,
    root: str | os.PathLike,
    receipts: str | os.PathLike,
    bar: Progress,
) -> Verdict:
    """Check one video; its file is read if it has no valid receipt. Raises DiskError."""
    path, name = video.file(root), video.video_id
    if not path.is_file():
        if os.path.lexists(path):
            return Verdict(name, UNREADABLE, reason=f"{path} is no file, or a broken link")
        return Verdict(name, MISSING, reason=f"no file {path}")
    before = path.stat()
    if not video.md5:
        return Verdict(name, UNVERIFIED, before.st_size, reason="the sheet has no md5")
    found = md5_of(video, root, receipts)
    if found is None:
        try:
            found = digest(path, "md5", lambda count: bar.update(count / 1e6, name)).value
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            return Verdict(name, UNREADABLE, before.st_size, reason=reason)
        if path.stat().st_mtime_ns != before.st_mtime_ns:
            reason = "it changed while it was read"
            return Verdict(name, UNREADABLE, before.st_size, reason=reason)
    write_receipt(video, root, receipts, found)  # also for the time that Snakemake gave it
    if found != video.md5.lower():
        reason = f"{path}: md5 {found}, the sheet says {video.md5.lower()}"
        return Verdict(name, WRONG, before.st_size, found, reason)
    return Verdict(name, VERIFIED, before.st_size, found)


def read_verdicts(path: str | os.PathLike) -> list[Verdict]:
    """Read the table that `verify_videos` wrote.

    Raises:
        EpicError: It is not such a table; the message names file and line.
    """
    about = (
        f"the table of the rule verify_videos, tab-separated {' '.join(COLUMNS)}; make it again "
        f"with `snakemake -R {path}`"
    )
    kinds = dict.fromkeys(COLUMNS, str) | {"size": int}
    return [Verdict(**row) for row in read_own_table(path, kinds, about=about)]


def write_videos_ok(tables: Sequence[str], out: str | os.PathLike) -> None:
    """Write `results/videos.ok`, one sentence, if every video is readable and no md5 is wrong.

    Args:
        tables: The tables of `verify_videos`.
        out: The file to write.

    Raises:
        EpicError: Some videos are wrong, unreadable or missing; the message counts and names them.
    """
    verdicts = [verdict for table in tables for verdict in read_verdicts(table)]
    bad = [v for v in verdicts if v.status in (WRONG, UNREADABLE, MISSING)]
    if bad:
        named = ", ".join(f"{v.video_id} {v.status}" for v in bad[:NAMED])
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise EpicError(
            f"{out}: not written: {len(bad)} of {len(verdicts)} videos are not what the sheet "
            f"says: {named}{more}; all are in {Path(tables[0]).parent}/*.tsv; with `videos: "
            "download: true` what is missing is fetched, and a wrong file once it is removed"
        )
    size = sum(verdict.size for verdict in verdicts) / 1e9
    words = f"{_counts(verdicts)}; {size:.3f} GB"
    write_text(out, f"{words}\n")
    log.info(words)


def _counts(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.status for verdict in verdicts)
    counted = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{len(verdicts)} videos: {counted}"
