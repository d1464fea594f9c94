"""Scan the videos of a participant, each in a process of its own that can be killed.

No file can hang or crash the scan. A decoder that hangs, takes too much memory or crashes gives a
row `unreadable` with its reason (`decoder_process`). Faults of the disk or the machine are not the
file's: the video is tried again, and if that fails, the scan ends with an error after all other
videos. Finished videos are cached by path, size and modification time, so an interrupted scan
decodes only new files. A file that was moved or copied anew keeps its result if its md5 is the same
(`kept_results`).
"""

import errno
import logging
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from epic100.base.disk import insist
from epic100.base.errors import DiskError, EpicError
from epic100.scan.kept_results import (
    Found,
    Result,
    load_result,
    move_result,
    note_contents,
    result_path,
)
from epic100.scan.oddities import sheet_hint
from epic100.scan.parameter_checks import SPOILT, spoilt_sets
from epic100.scan.proof import read_through_containers
from epic100.settings import ScanLimits
from epic100.video.decoder_process import PATIENCE, ProcessError, run_decoder
from epic100.video.fork_server import ForkServers
from epic100.video.index import VideoIndex
from epic100.video.index_file import write_indexes
from epic100.video.scan_table import (
    DAMAGED,
    DECODER_ONLY,
    MISSING,
    OK,
    STATES,
    UNREADABLE,
    ScanRow,
    write_scan_table,
)
from epic100.video.sheet import Video
from epic100.video.side_by_side import SharedProgress, complete

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 5.0)  # waits before a video that is not at fault is scanned again
WORKER = (sys.executable, "-P", "-m", "epic100.scan.worker")


def scan_participant(
    videos: Sequence[Video],
    root: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
    *,
    limits: ScanLimits = ScanLimits(),  # noqa: B008 (frozen)
    threads: int = 1,
    cache: str | os.PathLike | None = None,
    worker: Sequence[str] = WORKER,
    quick: bool = False,
) -> list[ScanRow]:
    """Scan `videos` below `root`; write their table and their frame indexes.

    Args:
        table: Output `results/scan/{participant}.tsv`.
        index: Output .npz with a VideoIndex per readable video (`load_index`).
        cache: Folder of finished videos, kept between calls.
        quick: Read packets and decode key frames only; every row reports it.

    Raises:
        EpicError: A video could not be scanned and is not at fault.
    """
    folder = Path(cache) if cache else Path(table).parent / "cache" / Path(table).stem
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {video.video_id: _Job(video, Path(root), folder, quick) for video in videos}
    with ForkServers(worker, PATIENCE * limits.stall_seconds) as servers:
        results, waited = complete(
            f"scan {Path(table).stem}",
            videos,
            lambda video: jobs[video.video_id].known(),
            lambda video, board: jobs[video.video_id].decode(limits, servers, board),
            threads,
        )
    _refuse_other_faults({name: job.fault for name, job in jobs.items() if job.fault}, table)
    indexes = {row.video_id: VideoIndex.from_arrays(found) for row, found in results if found}
    spoilt = spoilt_sets(indexes)
    rows = [_with_spoilt_sets(row, spoilt.get(row.video_id, "")) for row, _ in results]
    write_indexes(indexes, index)
    write_scan_table(rows, table)
    for row in rows:
        if row.status != OK:
            frames = sum(stop - start for start, stop in row.damaged)
            share = f", {frames} of {row.pictures} frames" if frames else ""
            log.info(f"{row.video_id}: {row.status}{share}: {row.reason}")
    alone = [row.video_id for row in rows if row.judged == DECODER_ONLY]
    if alone:
        log.info(
            f"{len(alone)} videos are judged by their decoder only, which misses some spoilt bits: "
            f"{', '.join(alone)}"
        )
    if slower := read_through_containers(indexes):
        log.info(slower)
    counts = Counter(row.status for row in rows)
    counted = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    decoded = waited - sum(job.is_moved for job in jobs.values())
    log.info(f"{len(rows)} videos: {counted}; {decoded} of them decoded now")
    return rows


class _Job:
    """One video, its place in the cache and its result."""

    def __init__(self, video: Video, root: Path, cache: Path, quick: bool):
        self.video, self._quick = video, quick
        self._path, self._cache = video.path(root), cache
        self._full = self._kept = cache
        self._file: os.stat_result | None = None  # its state when the cache paths were chosen
        self.is_moved = False  # the result is that of the same bytes at another place or time
        self.fault = ""  # why it could not be scanned, if the video is not at fault

    def known(self) -> Result | None:
        """The result if nothing must be decoded: no such file, or scanned before."""
        status, reason, state = _state(self._path)
        self._file = state
        if state is None:
            return ScanRow(self.video.video_id, status, reason=reason), {}
        self._full = result_path(self._cache, self.video, self._path, state)
        self._kept = self._full.with_suffix(".quick.npz") if self._quick else self._full
        # A full result also serves a quick look, never the other way round.
        result = load_result(self._full) or (load_result(self._kept) if self._quick else None)
        return None if result is None else self._with_hint(*result)

    def decode(self, limits: ScanLimits, servers: ForkServers, board: SharedProgress) -> Result:
        """Run the decoder and keep its result, unless it cannot read the file.

        Tries again if the file is not at fault. If all tries fail, `fault` has the reason.
        """
        for seconds in (*RETRY_SECONDS, None):
            try:
                result, self.fault = self._decode(limits, servers, board), ""
                return result
            except (ProcessError, DiskError) as error:
                self.fault = str(error)
            if seconds is not None and not board.stopped:
                time.sleep(seconds)
                try:
                    known = self.known()  # the file may have been replaced
                except DiskError as error:
                    self.fault = str(error)
                    continue
                if known is not None:
                    self.fault = ""
                    return known
        return ScanRow(self.video.video_id, UNREADABLE, reason=self.fault), {}

    def _decode(self, limits: ScanLimits, servers: ForkServers, board: SharedProgress) -> Result:
        name = self.video.video_id
        if not self.is_moved and move_result(self.video, self._path, self._full):
            self.is_moved, known = True, self.known()
            if known is not None:
                return known
        # Leftovers of an earlier file of this video, or of a killed scan.
        for pattern in (f"{name}.*.npz", f".{name}.*.tmp.npz", f"{name}.*.md5"):
            for left in self._cache.glob(pattern):
                left.unlink(missing_ok=True)
        command = [str(self._path), str(self._kept)]
        command += ["--seconds", str(self.video.duration), "--fps", str(self.video.fps)]
        command += ["--quick"] * self._quick + ["--max-pixels", str(limits.max_pixels)]
        reason = run_decoder(
            command,
            limits,
            limits.total(self.video.duration),
            lambda frames: board.update(self.video, frames),
            servers.fork,
        )
        result = None if reason else load_result(self._kept)
        if _changed(self._file, _state(self._path)[2]):
            self._kept.unlink(missing_ok=True)
            raise ProcessError(
                "the file changed while it was scanned; is it still being written? Run again then"
            )
        if reason:
            return ScanRow(name, UNREADABLE, reason=reason), {}
        if result is None:
            raise ProcessError(f"its decoder left no result in {self._kept}")
        if result[0].status == UNREADABLE:
            self._kept.unlink()  # cheap to redo, and permissions may change unnoticed
        elif not self._quick:
            note_contents(self._kept, self._path, self.video)
        return self._with_hint(*result)

    def _with_hint(self, row: ScanRow, found: Found) -> Result:
        """The row under the sheet's name, with the hint about the sheet's length."""
        if found:
            index = VideoIndex.from_arrays(found)
            seconds = index.times[-1] + (1 / index.fps if index.fps else 0)
            hint = sheet_hint(seconds, self.video.duration)
            row = replace(row, reason="; ".join(filter(None, (row.reason, hint))))
        return replace(row, video_id=self.video.video_id), found


def _with_spoilt_sets(row: ScanRow, why: str) -> ScanRow:
    """The row of a video with corrupted parameter sets: all its pictures may be wrong."""
    if not why or not row.readable:
        return row
    reason = "; ".join(filter(None, (f"{SPOILT}: {why}", row.reason)))
    return replace(row, status=DAMAGED, damaged=[(0, row.pictures)], reason=reason)


def _refuse_other_faults(faults: dict[str, str], table: str | os.PathLike) -> None:
    if faults:
        faulty = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        raise EpicError(
            f"{table}: not written, since the scan of {len(faults)} videos failed and they are not "
            f"at fault: {faulty}; what is finished is kept: run again"
        )


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
    if stat.S_ISDIR(state.st_mode):
        return UNREADABLE, "cannot open: a directory", None
    if not stat.S_ISREG(state.st_mode):
        return UNREADABLE, "cannot open: not a regular file", None
    return "", "", state
