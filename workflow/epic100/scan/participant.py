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
    """The result of scanning one video.

    Attributes:
        row: The row as measured in the file; `finished_row` makes the row of the table of it.
        index: The frame index; None if the video cannot be read.
    """

    row: ScanRow
    index: VideoIndex | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Result":
        """Make a result from the answer of `worker.scan_file`, which ran in another process.

        Raises:
            FileError: The arrays of the answer are no frame index.
            ValueError: The row has other columns.
        """
        return cls(ScanRow.of(answer["row"]), VideoIndex.from_arrays(answer["arrays"]))


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
    """Scan the videos of a participant; write their scan table and their frame indexes.

    Args:
        videos: The participant's rows of the sheet.
        root: The folder below which the video files are.
        table: Output `results/scan/{participant}.tsv`.
        index: Output .npz with a VideoIndex per readable video (`load_index`).
        limits: Limits on time, memory and picture size for the scan of one file.
        threads: Number of videos that are scanned at once.
        cache: Folder of finished results, kept between calls; None: one beside the table.
        quick: Read packets and decode key frames only; every row reports it.
        scan: The function that scans a file; it is called in a process of its own.

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
    """Complete a measured row for the scan table: add its `finding`, which depends on the sheet.

    Kept results have only what was measured in the file, so they stay valid if the sheet changes.

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
    decoded_count: int,
) -> None:
    """Log every video that is not ok or is read differently, and a summary of the scan."""
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
            damaged_text = f", {frames} of {row.pictures} frames" if frames else ""
            log.info(f"{row.video_id}: {row.status}{damaged_text}: {row.reason}")
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
    if through_container := [name for name, index in indexes.items() if not index.direct]:
        log.info(
            f"{len(through_container)} videos are read through their container, since their "
            "packets cannot be read by their places in the file; a clip takes longer: "
            f"{', '.join(through_container)}"
        )
    counts = Counter(row.status for row in rows)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    log.info(f"{len(rows)} videos: {summary}; {decoded_count} of them decoded now")


def seen_at(path: Path, state: os.stat_result) -> dict[str, Any]:
    """Path, size and modification time of a file: while they stay, its bytes are taken to stay.

    Args:
        path: The file.
        state: The result of its `stat`.
    """
    return {"path": str(path.resolve()), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def keep_result(result_path: Path, result: Result, file_seen: Mapping[str, Any]) -> None:
    """Write the scan result of a file that could be read, for later calls.

    Args:
        result_path: The file to write.
        result: The result; one without an index is not written.
        file_seen: The path, size and time of the video file (`seen_at`).

    Raises:
        DiskError: The disk fails.
    """
    # The result of a file that cannot be read is cheap to find again. And it may become wrong
    # without a trace: permissions may change while size and time of the file stay.
    if result.index:
        keep(
            result_path,
            {"version": VERSION, "seen": file_seen, "row": vars(result.row)},
            result.index,
        )


def kept_result(
    result_path: Path, file_seen: Mapping[str, Any], quick: bool, file: Path | None = None
) -> Result | None:
    """Read the scan result that an earlier call kept, if it is valid for the file as it is now.

    Args:
        result_path: The file that `keep_result` wrote.
        file_seen: The path, size and time of the video file now (`seen_at`).
        quick: Whether the result of a quick look is enough.
        file: The video file. If it was moved or copied anew, it is read for its md5. None: the
            result of a file that was moved is not used.

    Returns:
        The result, or None if there is none, or if it is of other bytes or another version.
    """
    facts, index = kept(result_path)
    try:
        result, seen_before = Result(ScanRow.of(facts["row"]), index), facts["seen"]
    except (ValueError, KeyError):  # No result is kept, or its row has other columns.
        return None
    if facts["version"] != VERSION or (result.row.judged == QUICK and not quick):
        return None
    if seen_before == file_seen:
        return result
    if file is None or seen_before["bytes"] != file_seen["bytes"]:
        return None
    with contextlib.suppress(OSError, EpicError):  # The scan will report this error.
        if digest(file, "md5").value == result.row.md5:
            # From now on the result is known by the new place, without another read for the md5.
            keep_result(result_path, result, file_seen)
            log.info(f"{result.row.video_id}: moved or copied anew, same md5: its result is kept")
            return result
    return None


@dataclass
class _Job:
    """The scan of one video: a `Job` for `complete`.

    Attributes:
        path: The video file.
        folder: The folder where results are kept.
        state: The file's state when `known` last looked; None if there is no regular file.
        is_decoded: Whether this job decoded the video, rather than use a kept result.
    """

    video: Video
    path: Path
    folder: Path
    limits: ScanLimits
    quick: bool
    scan: Callable[..., dict[str, Any]]
    state: os.stat_result | None = None
    is_decoded: bool = False

    @property
    def result_path(self) -> Path:
        """The file in which the result of this video is kept."""
        return self.folder / f"{self.video.video_id}.npz"

    def known(self) -> Result | None:
        """The result if nothing must be decoded: there is no file, or it was scanned before.

        Sets `state`.
        """
        status, reason, self.state = _state(self.path)
        if self.state is None:
            return Result(ScanRow(self.video.video_id, status, reason=reason))
        return kept_result(self.result_path, seen_at(self.path, self.state), self.quick)

    def work(self, progress: Callable[[int], None]) -> Result:
        """Return the kept result of the video if there is one; else decode it and keep the result.

        Raises:
            ProcessError: The file changed during the scan, or the machine is at fault.
            DiskError: The disk fails.
        """
        # The file may have been replaced since the job was planned, so look again.
        if (cached := self.known()) is not None:
            return cached
        assert self.state is not None, "without a file the result is known"
        file_seen = seen_at(self.path, self.state)
        # With the path of the file, its md5 may show that a kept result is of the same bytes.
        if result_of_moved_file := kept_result(self.result_path, file_seen, self.quick, self.path):
            return result_of_moved_file
        self.is_decoded = True
        try:
            result = Result.of(
                call(
                    self.scan,
                    self.path,
                    self.video,
                    self.quick,
                    self.limits.max_pixels,
                    limits=self.limits,
                    seconds=self.limits.total(self.video.duration),
                    progress=progress,
                )
            )
        except FileError as error:
            result = Result(ScanRow(self.video.video_id, UNREADABLE, reason=str(error)))
        # A file that changed during the scan gives no result: it would be of mixed bytes.
        _, _, state_after = _state(self.path)
        if _is_changed(self.state, state_after):
            raise ProcessError(
                "the file changed while it was scanned; is it still being written? Run again then"
            )
        keep_result(self.result_path, result, file_seen)
        return result


def _is_changed(before: os.stat_result | None, after: os.stat_result | None) -> bool:
    """Whether a file was written to, replaced or removed between two looks at its state."""
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    return any(getattr(before, name, None) != getattr(after, name, None) for name in names)


def _state(path: Path) -> tuple[str, str, os.stat_result | None]:
    """Look up the state of a video file on the disk.

    Returns:
        ("", "", state) of a regular file; (status, reason, None) of anything else, such as
        (`missing`, `no file P01_01.MP4`, None).
    """
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
