"""Scan the videos of a participant, each in a separate process that can be killed.

No file can hang or crash the scan. A decoder that hangs, takes too much memory or crashes gives a
row `unreadable` with its reason (`guarded`). After an error of the disk or the machine, the scan
goes on with all other videos and then fails, and the next scan tries that video again.

The result of each video is kept in a file, so an interrupted scan decodes only new videos. A result
is valid for the bytes of a video file, by their md5. A file of the same path, size and modification
time is taken to have the same bytes. Any other file of the same size is read for its md5: it may
have been moved, or copied anew after a scratch disk had removed it. A result is not valid for
another version of the scan, or for other columns of the table.
"""

import contextlib
import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from epic100.base.disk import digest, retry_disk
from epic100.base.errors import EpicError
from epic100.base.guarded import FileError, ProcessError, call
from epic100.scan.damage import clock_finding
from epic100.scan.worker import scan_file
from epic100.settings.data import SCAN_VERSION, ScanLimits
from epic100.video.index import VideoIndex, read_stored_result, store_result, write_indexes
from epic100.video.jobs import complete
from epic100.video.scan_table import (
    DECODER_ONLY,
    FRAMES,
    MISSING,
    OK,
    STATES,
    UNREADABLE,
    ScanRow,
    write_scan_table,
)
from epic100.video.sheet import Video, is_frames

log = logging.getLogger(__name__)


def scan_participant(
    videos: Sequence[Video],
    root: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
    *,
    limits: ScanLimits = ScanLimits(),  # noqa: B008 (frozen)
    threads: int = 1,
    cache: str | os.PathLike | None = None,
    scan: Callable[..., dict[str, Any]] = scan_file,
) -> list[ScanRow]:
    """Scan the videos of a participant; write their scan table and their frame indexes.

    Args:
        videos: The participant's rows of the sheet.
        root: The folder below which the video files are.
        table: Output `results/scan/{participant}.tsv`.
        index: Output .npz with a VideoIndex per readable video (`load_index`).
        limits: Limits on time, memory and frame size for the scan of one file.
        threads: Number of videos that are scanned at once.
        cache: Folder of the kept results; None: one next to the table.
        scan: The function that scans a file; it is called in a separate process.

    Returns:
        The rows of the table, in the order of `videos`.

    Raises:
        EpicError: The disk or the machine failed during the scan of a video.
    """
    folder = Path(cache) if cache else Path(table).parent / "cache" / Path(table).stem
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [_ScanJob(video, video.file(root), folder, limits, scan) for video in videos]
    results, _ = complete(f"scan {Path(table).stem}", jobs, threads, table)
    indexes, rows = dict[str, VideoIndex](), list[ScanRow]()
    for video in videos:
        row, video_index = results[video.video_id].row, results[video.video_id].index
        if video_index:
            indexes[video.video_id] = video_index
            # The finding depends on the sheet. Kept results do not have it, so they stay valid if
            # the sheet changes.
            finding = clock_finding(row, video_index, video.duration, video.fps)
            row = replace(row, finding=finding)
        rows.append(row)
    write_indexes(indexes, index)
    write_scan_table(rows, table)
    _report(videos, rows, sum(job.is_decoded for job in jobs))
    return rows


def _report(videos: Sequence[Video], rows: Sequence[ScanRow], decoded_count: int) -> None:
    """Log each video that is not ok or is read differently, and a summary of the scan.

    Args:
        videos: The rows of the sheet.
        rows: The rows of the scan table, in the same order.
        decoded_count: Number of videos that this scan has decoded.
    """
    other_files, by_decoder = list[str](), list[str]()
    for video, row in zip(videos, rows, strict=True):
        is_film = row.judged != FRAMES
        if is_film and row.md5 and video.md5 and row.md5 != video.md5.lower():
            other_files.append(row.video_id)
        if row.judged == DECODER_ONLY:
            by_decoder.append(row.video_id)
        if row.status != OK:
            frames = sum(stop - start for start, stop in row.damaged)
            damaged_text = f", {frames} of {row.pictures} frames" if frames else ""
            log.info(f"{row.video_id}: {row.status}{damaged_text}: {row.reason}")
        if row.finding:
            log.warning(
                f"{row.video_id}: {row.finding}; its segments are held back until the config says "
                f"`videos: accept: [{row.video_id}]`"
            )
    # What is true of several videos is one line.
    if other_files:
        log.info(
            f"{len(other_files)} videos are other files than those of the sheet, by their md5: "
            f"{', '.join(other_files)}"
        )
    if by_decoder:
        log.info(
            f"{len(by_decoder)} videos are judged by their decoder only, which misses some spoilt "
            f"bits: {', '.join(by_decoder)}"
        )
    counts = Counter(row.status for row in rows)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    log.info(f"{len(rows)} videos: {summary}; {decoded_count} of them decoded now")


@dataclass(frozen=True)
class Result:
    """The result of scanning one video file.

    Attributes:
        row: The row of the scan table, but for its `finding`.
        index: The frame index; None if the video cannot be read.
    """

    row: ScanRow
    index: VideoIndex | None = None


@dataclass
class _ScanJob:
    """The scan of one video, for `complete`.

    Attributes:
        video: The row of the sheet.
        path: The video file.
        folder: The folder of the kept results.
        limits: Limits on time, memory and frame size.
        scan: The function that scans the file.
        state: The `stat` of the file at the last call of `settled_result`; None if there is none.
        seen: Its path, size and modification time then, by which a kept result is found valid.
        is_decoded: Whether this job has begun to decode the video, rather than use a kept result.
            The report of the scan counts these jobs.
    """

    video: Video
    path: Path
    folder: Path
    limits: ScanLimits
    scan: Callable[..., dict[str, Any]]
    state: os.stat_result | None = None
    seen: dict[str, Any] = field(default_factory=dict)
    is_decoded: bool = False

    def settled_result(self) -> Result | None:
        """Return the result if there is no file, or a valid result is kept; else None.

        It also sets `state` and `seen`.
        """
        self.state = None
        try:
            self.state = _state(self.path)
        except OSError:
            return Result(ScanRow(self.video.video_id, MISSING, reason=f"no file {self.path}"))
        except FileError as error:
            return Result(ScanRow(self.video.video_id, UNREADABLE, reason=str(error)))
        self.seen = {
            "path": str(self.path.resolve()),
            "bytes": self.state.st_size,
            "mtime_ns": self.state.st_mtime_ns,
        }
        return self._kept_result()

    def work(self, progress: Callable[[int], None]) -> Result:
        """Return the kept result of the video if there is one; else scan it and keep the result.

        First it searches a result for this path, size and time, then one for the same md5.

        Args:
            progress: Called with the number of packets that were read.

        Raises:
            ProcessError: The file changed during the scan, or the machine failed.
            DiskError: The disk fails.
        """
        # The file may have been replaced since the job was planned, so it is checked again.
        if (cached := self.settled_result()) is not None:
            return cached
        # To compare the md5 of the file is slow, so `settled_result`, which plans the jobs, does
        # without it.
        if moved := self._kept_result(compares_md5=True):
            return moved
        self.is_decoded = True
        try:
            answer = call(
                self.scan,
                self.path,
                self.video,
                self.limits.max_pixels,
                limits=self.limits,
                seconds=self.limits.total(self.video.duration),
                progress=progress,
            )
        except FileError as error:
            result = Result(ScanRow(self.video.video_id, UNREADABLE, reason=str(error)))
        else:
            index = VideoIndex.from_arrays(answer["arrays"])
            result = Result(ScanRow.of(answer["row"]), index)
        # If the file changed during the scan, the result is of a mixture of old and new bytes.
        if self._is_changed():
            raise ProcessError(
                "the file changed while it was scanned; is it still being written? Run again then"
            )
        self._keep(result)
        return result

    def _kept_result(self, compares_md5: bool = False) -> Result | None:
        """Read the result that an earlier scan kept, if it is valid for the file as it is now.

        Args:
            compares_md5: Whether the file is read for its md5 if it was moved or copied anew.

        Returns:
            The result; None if there is none, or if it is of other bytes or another version.
        """
        facts, index = read_stored_result(self.folder / f"{self.video.video_id}.npz")
        try:
            result = Result(ScanRow.of(facts["row"]), index)
        except (ValueError, KeyError):
            # No result is stored, so `facts` is empty; or the row has other columns.
            return None
        if facts["version"] != SCAN_VERSION:
            return None
        if facts["seen"] == self.seen:
            return result
        if not compares_md5 or facts["seen"]["bytes"] != self.seen["bytes"]:
            return None
        # If the file cannot be read now, the scan that follows reports the error.
        with contextlib.suppress(OSError, EpicError):
            if digest(self.path, "md5").value == result.row.md5:
                # With the new path, the next call finds it without another read for the md5.
                self._keep(result)
                name = self.video.video_id
                log.info(f"{name}: moved or copied anew, same md5: its result is kept")
                return result
        return None

    def _keep(self, result: Result) -> None:
        """Write the result of a video that can be read, for later calls.

        A file that cannot be read is tried again, which is cheap: permissions may change while size
        and modification time stay the same.
        """
        if result.index:
            facts = {"version": SCAN_VERSION, "seen": self.seen, "row": vars(result.row)}
            store_result(self.folder / f"{self.video.video_id}.npz", facts, result.index)

    def _is_changed(self) -> bool:
        """Whether the file was written to, replaced or removed since `state`."""
        try:
            now = retry_disk(self.path, "asking for its state", self.path.stat)
        except OSError:
            return True
        names = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
        return any(getattr(now, name) != getattr(self.state, name) for name in names)


def _state(path: Path) -> os.stat_result:
    """Read the `stat` of a video file, or of a folder of frames.

    Raises:
        OSError: There is no file.
        FileError: It cannot be opened, or is no file.
    """
    try:
        state = retry_disk(path, "asking for its state", path.stat)
    except OSError as error:
        if path.is_symlink():
            raise FileError(f"cannot open: broken link to {os.readlink(path)}") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise
        raise FileError(f"cannot open: {error.strerror}") from error
    if stat.S_ISDIR(state.st_mode) and not is_frames(path):
        raise FileError("cannot open: a directory")
    if not (stat.S_ISREG(state.st_mode) or is_frames(path)):
        raise FileError("cannot open: not a regular file")
    return state
