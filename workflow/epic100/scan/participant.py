"""Scan the videos of a participant, each in a process of its own that can be killed.

No file can hang or crash the scan. A decoder that hangs, takes too much memory or crashes gives a
row `unreadable` with its reason (`guarded`). Faults of the disk or the machine are not the file's:
the scan ends with an error after all other videos, and the next one tries that video again.

Results of finished videos are kept between calls, a file a video, so an interrupted scan decodes
only new files. A result is of the bytes of a file: of its md5. A file of the same path, size and
modification time is taken to have the same bytes. Any other of the same size is read for its md5:
after a move or a new copy, since a scratch disk may remove files that nobody used for a month. A
result never serves another version of the scan, or other columns of the table.
"""

import contextlib
import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epic100.base.disk import digest, insist
from epic100.base.errors import EpicError
from epic100.base.folders import make_folder
from epic100.base.guarded import FileError, ProcessError, call
from epic100.scan.clock import clock_finding
from epic100.scan.worker import scan_file
from epic100.settings import ScanLimits
from epic100.video.index import VideoIndex
from epic100.video.index_file import write_indexes
from epic100.video.jobs import complete, keep, kept
from epic100.video.scan_table import (
    DECODER_ONLY,
    MISSING,
    OK,
    QUICK,
    STATES,
    UNREADABLE,
    ScanRow,
    write_scan_table,
)
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

# Raise it when the scan finds more, so that every file is scanned again.
VERSION = 6


@dataclass(frozen=True)
class Result:
    """What a process found in a video.

    Attributes:
        row: Its row, as measured: `finished_row` makes that of the table.
        index: None if the video cannot be read.
    """

    row: ScanRow
    index: VideoIndex | None = None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Result":
        """Take what `worker.scan_file` found. Raises FileError if it is no such thing."""
        return cls(ScanRow.of(found["row"]), VideoIndex.from_arrays(found["arrays"]))


def scan_participant(
    videos: Sequence[Video],
    root: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
    *,
    limits: ScanLimits = ScanLimits(),  # noqa: B008 (frozen)
    threads: int = 1,
    cache: str | os.PathLike | None = None,
    quick: bool = False,
    scan: Callable[..., dict[str, Any]] = scan_file,
) -> list[ScanRow]:
    """Scan `videos` below `root`; write their table and their frame indexes.

    Args:
        table: Output `results/scan/{participant}.tsv`.
        index: Output .npz with a VideoIndex per readable video (`load_index`).
        cache: Folder of finished videos, kept between calls.
        quick: Read packets and decode key frames only; every row reports it.
        scan: What is called on each file, in a process of its own.

    Raises:
        EpicError: A video could not be scanned and is not at fault.
    """
    folder = Path(cache) if cache else Path(table).parent / "cache" / Path(table).stem
    make_folder(folder)
    jobs = [_Job(video, video.file(root), folder, limits, quick, scan) for video in videos]
    results, _ = complete(f"scan {Path(table).stem}", jobs, threads, table)
    indexes = {name: result.index for name, result in results.items() if result.index}
    rows = [
        finished_row(result.row, job.video, indexes.get(name))
        for job, (name, result) in zip(jobs, results.items(), strict=True)
    ]
    write_indexes(indexes, index)
    write_scan_table(rows, table)
    _report(videos, rows, indexes, sum(job.is_decoded for job in jobs))
    return rows


def finished_row(row: ScanRow, video: Video, index: VideoIndex | None) -> ScanRow:
    """The row of the table, for results of this scan and for kept ones.

    What follows from the sheet is added here. What is measured in the file is added by
    `worker.scan_file`.

    Args:
        row: The row as measured.
        video: The row of the sheet.
        index: The index, if the video can be read.
    """
    return (
        replace(row, finding=clock_finding(row, index, video.duration, video.fps)) if index else row
    )


def _report(
    videos: Sequence[Video],
    rows: Sequence[ScanRow],
    indexes: Mapping[str, VideoIndex],
    decoded: int,
) -> None:
    other_files = [
        row.video_id
        for video, row in zip(videos, rows, strict=True)
        if row.md5 and video.md5 and row.md5 != video.md5.lower()
    ]
    if other_files:
        log.info(
            f"{len(other_files)} videos are other files than those of the sheet, by their md5: "
            f"{', '.join(other_files)}"
        )
    for row in rows:
        if row.status != OK:
            frames = sum(stop - start for start, stop in row.damaged)
            share = f", {frames} of {row.pictures} frames" if frames else ""
            log.info(f"{row.video_id}: {row.status}{share}: {row.reason}")
        if row.finding:
            log.warning(
                f"{row.video_id}: {row.finding}; its segments are held back until the config says "
                f"`videos: accept: [{row.video_id}]`"
            )
    if by_decoder := [row.video_id for row in rows if row.judged == DECODER_ONLY]:
        log.info(
            f"{len(by_decoder)} videos are judged by their decoder only, which misses some spoilt "
            f"bits: {', '.join(by_decoder)}"
        )
    if slow := [name for name, index in indexes.items() if not index.direct]:
        log.info(
            f"{len(slow)} videos are read through their container, since their packets cannot be "
            f"read by their places in the file; a clip takes longer: {', '.join(slow)}"
        )
    counts = Counter(row.status for row in rows)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    log.info(f"{len(rows)} videos: {summary}; {decoded} of them decoded now")


def seen_at(path: Path, state: os.stat_result) -> dict[str, Any]:
    """Where a file was seen, by which its bytes are known again without a read."""
    return {"path": str(path.resolve()), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def keep_result(place: Path, result: Result, seen: Mapping[str, Any]) -> None:
    """Write a result that has an index, and where its file was seen. Raises DiskError."""
    # Other results are cheap to redo, and permissions may change unnoticed.
    if result.index:
        facts = {"version": VERSION, "seen": seen, "row": vars(result.row)}
        keep(place, facts, result.index)


def kept_result(
    place: Path, seen: Mapping[str, Any], quick: bool, file: Path | None = None
) -> Result | None:
    """The result that is kept of a file, or None.

    Args:
        place: Where it is kept.
        seen: Where the file is seen now.
        quick: Whether that of a quick look is enough.
        file: The file, which is read if it may have the bytes of one that was elsewhere. None: it
            is not read.
    """
    facts, index = kept(place)
    try:
        result, seen_before = Result(ScanRow.of(facts["row"]), index), facts["seen"]
    except (ValueError, KeyError):  # There is none, or it has other columns.
        return None
    if facts["version"] != VERSION or (result.row.judged == QUICK and not quick):
        return None
    if seen_before == seen:
        return result
    if file is None or seen_before["bytes"] != seen["bytes"]:
        return None
    with contextlib.suppress(OSError, EpicError):  # The scan will report this error.
        if digest(file, "md5").value == result.row.md5:
            keep_result(place, result, seen)
            log.info(f"{result.row.video_id}: moved or copied anew, same md5: its result is kept")
            return result
    return None


@dataclass
class _Job:
    """The scan of one video."""

    video: Video
    path: Path
    folder: Path
    limits: ScanLimits
    quick: bool
    scan: Callable[..., dict[str, Any]]
    # It is the file's state when it was last looked for.
    state: os.stat_result | None = None
    is_decoded: bool = False

    @property
    def place(self) -> Path:
        """Where its result is kept."""
        return self.folder / f"{self.video.video_id}.npz"

    def known(self) -> Result | None:
        """The result if nothing must be decoded: no such file, or scanned before."""
        status, reason, self.state = _state(self.path)
        if self.state is None:
            return Result(ScanRow(self.video.video_id, status, reason=reason))
        return kept_result(self.place, seen_at(self.path, self.state), self.quick)

    def work(self, progress: Callable[[int], None]) -> Result:
        """Decode the video and keep the result."""
        # It may be another file by now.
        if (known := self.known()) is not None:
            return known
        assert self.state is not None, "without a file the result is known"
        seen = seen_at(self.path, self.state)
        if moved := kept_result(self.place, seen, self.quick, self.path):
            return moved
        self.is_decoded = True
        try:
            answer = call(
                self.scan,
                self.path,
                self.video,
                self.quick,
                self.limits.max_pixels,
                limits=self.limits,
                seconds=self.limits.total(self.video.duration),
                progress=progress,
            )
            result = Result.of(answer)
        except FileError as error:
            result = Result(ScanRow(self.video.video_id, UNREADABLE, reason=str(error)))
        if _changed(self.state, _state(self.path)[2]):
            raise ProcessError(
                "the file changed while it was scanned; is it still being written? Run again then"
            )
        keep_result(self.place, result, seen)
        return result


def _changed(before: os.stat_result | None, after: os.stat_result | None) -> bool:
    """Whether the file was written to or replaced."""
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    return any(getattr(before, name, None) != getattr(after, name, None) for name in names)


def _state(path: Path) -> tuple[str, str, os.stat_result | None]:
    """("", "", state) of a regular file, or (status, reason, None) of anything else."""
    try:
        state = insist(path, "asking for its state", path.stat)
    except OSError as error:
        if path.is_symlink():
            return UNREADABLE, f"cannot open: broken link to {os.readlink(path)}", None
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return MISSING, f"no file {path}", None
        return UNREADABLE, f"cannot open: {error.strerror}", None
    if not stat.S_ISREG(state.st_mode):
        file_type = "a directory" if stat.S_ISDIR(state.st_mode) else "not a regular file"
        return UNREADABLE, f"cannot open: {file_type}", None
    return "", "", state
