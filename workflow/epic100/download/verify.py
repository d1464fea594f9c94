"""Check an archive against the sheet's md5s: one table per participant, and one result for all.

A file is read once. Its receipt is used as long as path, size and modification time are the same.
A failing disk is not the file's fault: it is tried again, and then ends the check with an error
after all other files. No row is written from such a read.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.disk import digest
from epic100.base.errors import DiskError, EpicError
from epic100.base.log import Progress
from epic100.base.text_table import read_own_table, write_table
from epic100.download.receipts import md5_of, write_receipt
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

VERIFIED, WRONG, UNVERIFIED = "verified", "wrong", "unverified"
UNREADABLE, MISSING = "unreadable", "missing"
STATES = (VERIFIED, WRONG, UNVERIFIED, UNREADABLE, MISSING)
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
        video.path(root).stat().st_size
        for video in videos
        if video.md5 and video.path(root).is_file() and not md5_of(video, root, receipts)
    ]
    bar = Progress(f"verify {Path(table).stem}", sum(unread) / 1e6, "MB")

    def check(video: Video) -> Verdict | DiskError:
        try:
            return _check(
                video, root, receipts, lambda count: bar.update(count / 1e6, video.video_id)
            )
        except DiskError as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        outcomes = list(pool.map(check, videos))
    bar.close()
    verdicts = [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
    failed = [str(outcome) for outcome in outcomes if isinstance(outcome, DiskError)]
    if failed:
        raise DiskError(
            f"{table}: not written: the disk failed for {len(failed)} videos: "
            f"{'; '.join(failed)}; what was read before is kept"
        )
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
    watch: Callable[[int], None],
) -> Verdict:
    """Check one video; its file is read if it has no valid receipt. Raises DiskError."""
    path, name = video.path(root), video.video_id
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
            found = digest(path, "md5", watch).value
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
