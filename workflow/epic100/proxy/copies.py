"""Small copies of a participant's videos; each is made by its own process, which can be killed.

Finished copies are kept, with notes beside them on what they were made from, so that a run that
was interrupted makes only the missing ones. A failure does not stop the others: where a copy cannot
be made, a link to the original takes its place, with the original's index, and this is logged.
"""

import json
import logging
import os
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.disk import insist, reading
from epic100.base.errors import DiskError, EpicError
from epic100.proxy.copy_table import ProxyRow, State, write_proxy_table
from epic100.proxy.encoder import same_clock
from epic100.settings import ProxySettings, ScanLimits
from epic100.video.decoder_process import ProcessError, run_decoder
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index, write_indexes
from epic100.video.scan_table import ScanRow, read_scan_table
from epic100.video.sheet import Video
from epic100.video.side_by_side import SharedProgress, complete

log = logging.getLogger(__name__)

ENCODER = (sys.executable, "-P", "-m", "epic100.proxy.encoder")
VERSION = 1  # increase it when copies change, so that old ones are not used


Result = tuple[ProxyRow, VideoIndex | None]


def make_proxies(
    videos: Sequence[Video],
    root: str | os.PathLike,
    copies: str | os.PathLike,
    *,
    scan_table: str | os.PathLike,
    scan_index: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
    settings: ProxySettings,
    limits: ScanLimits = ScanLimits(),  # noqa: B008 (frozen)
    threads: int = 1,
    encoder: Sequence[str] = ENCODER,
) -> list[ProxyRow]:
    """Make the missing copies of `videos`, at the same places below `copies` as below `root`.

    A video that `scan_table` calls unreadable gets no copy. `scan_index` has the originals' frame
    indexes. Writes `table`, one row per video for people, and `index`, an .npz of the copies'
    frame indexes for readers.

    Raises:
        EpicError: The disk does not accept a copy; raised after all others are done.
    """
    scanned = {row.video_id: row for row in read_scan_table(scan_table)}
    jobs = {}
    for video in videos:
        _make_folder(video.path(copies).parent)
        job = _Job(video, scanned, Path(root), Path(copies), Path(scan_index), settings)
        jobs[video.video_id] = job
    results, made = complete(
        f"copy {Path(table).stem}",
        videos,
        lambda video: jobs[video.video_id].known(),
        lambda video, board: jobs[video.video_id].make(limits, encoder, board),
        threads,
    )
    rows = [row for row, _ in results]
    _refuse_disk_errors(rows, copies)
    write_indexes({row.video_id: own for row, own in results if own is not None}, index)
    write_proxy_table(rows, table)
    for row in rows:
        if row.state == State.ORIGINAL:
            log.warning(f"{row.video_id}: no copy, the original is read: {row.reason}")
        elif row.stand_ins:
            log.info(f"{row.video_id}: {row.stand_ins} damaged frames are grey in its copy")
    counts = Counter(row.state for row in rows)
    counted = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    size, original = (sum(getattr(r, n) for r in rows) / 1e6 for n in ("bytes", "original_bytes"))
    log.info(
        f"{len(rows)} videos: {counted}; {made} of them worked on now; "
        f"{size:.1f} MB, the originals {original:.1f} MB"
    )
    return rows


class _Job:
    """One video, the path of its copy, and the notes beside the copy."""

    def __init__(
        self,
        video: Video,
        scanned: Mapping[str, ScanRow],
        root: Path,
        copies: Path,
        scan_index: Path,
        settings: ProxySettings,
    ):
        self.video, self._scan_index, self._settings = video, scan_index, settings
        self._source, self._copy = video.path(root), video.path(copies)
        self._notes = self._copy.with_suffix(".npz")
        if self._source.parent.resolve() == self._copy.parent.resolve():
            raise EpicError(
                f"{self._copy.parent}: holds the originals; copies need a folder of their own, see "
                "`videos: proxy: root:` in the config"
            )
        if video.video_id not in scanned:
            raise EpicError(
                f"{scan_index}: no row of {video.video_id} in the table beside it; scan its "
                "participant again"
            )
        self._row, self._key = scanned[video.video_id], ""

    @cached_property
    def _index(self) -> VideoIndex:
        return load_index(self._scan_index, self.video.video_id)

    def known(self) -> Result | None:
        """Return the result if there is nothing to do: nothing to copy, or done before."""
        if not self._row.readable:
            return ProxyRow(self.video.video_id, State.NONE, reason=self._row.reason), None
        try:
            state = self._source.stat()
        except OSError as error:
            raise EpicError(
                f"{self._source}: {error.strerror}; it was there when it was scanned"
            ) from error
        made_of = {
            "version": VERSION,
            "source": str(self._source.resolve()),
            "bytes": state.st_size,
            "mtime_ns": state.st_mtime_ns,
        }
        self._key = json.dumps(made_of | self._settings.stored())
        return self._result()

    def make(self, limits: ScanLimits, encoder: Sequence[str], board: SharedProgress) -> Result:
        """Run the encoder; if it fails, link the original in place of the copy."""
        name = self.video.video_id
        for left in self._copy.parent.glob(f".{name}.*.tmp.*"):  # of a run that was killed
            left.unlink(missing_ok=True)
        command = [*encoder, str(self._source), str(self._copy), str(self._notes)]
        command += ["--index", str(self._scan_index), "--key", self._key]
        command += ["--settings", json.dumps(self._settings.stored())]
        try:
            reason = run_decoder(
                command,
                limits,
                limits.total(self.video.duration),
                lambda frames: board.update(self.video, frames),
            )
        except ProcessError as error:  # not the video's fault
            return ProxyRow(name, State.UNWRITTEN, reason=str(error)), None
        result = None if reason else self._result()
        if result is None:
            if not reason:
                return ProxyRow(name, State.UNWRITTEN, reason="the encoder left no copy"), None
            return self._original(reason), self._index
        return result

    def _result(self) -> Result | None:
        """Return what the notes say, if they and the copy are complete and made from this file."""
        if not self._notes.is_file():
            return None
        try:
            with reading(self._notes) as file, np.load(file) as notes:
                facts, arrays = json.loads(str(notes["facts"])), dict(notes)
            own = VideoIndex.from_arrays(arrays)
            size = insist(self._copy, "asking for its size", self._copy.stat).st_size
            # Not its time: a copy that was touched, to keep it, is still valid.
            if facts["key"] != self._key or facts["bytes"] != size:
                return None
        except DiskError:
            raise
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        if not same_clock(self._index, own):
            return None
        sound = self._beyond_damage(facts["stand_ins"])
        if sound:
            reason = f"{sound} frames that the scan calls sound do not decode"
            return self._original(reason), self._index
        row = ProxyRow(
            self.video.video_id,
            State.COPIED,
            facts["width"],
            facts["height"],
            facts["frames"],
            len(facts["stand_ins"]),
            facts["psnr"],
            size,
            self._source.stat().st_size,
        )
        return row, own

    def _beyond_damage(self, frames: list[int]) -> int:
        damaged = np.zeros(self._index.frames, dtype=bool)
        for start, stop in self._row.damaged:
            damaged[start:stop] = True
        return int((~damaged[frames]).sum())

    def _original(self, reason: str) -> ProxyRow:
        """Put a link to the original in place of the copy."""
        with atomic_path(self._copy) as temporary:
            temporary.unlink()
            temporary.symlink_to(self._source.resolve())
        self._notes.unlink(missing_ok=True)
        return ProxyRow(
            self.video.video_id,
            State.ORIGINAL,
            frames=self._index.frames,
            original_bytes=self._source.stat().st_size,
            reason=reason,
        )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EpicError(
            f"{path}: {error.strerror}; copies go there, see `videos: proxy: root:` in the config"
        ) from error


def _refuse_disk_errors(rows: Sequence[ProxyRow], copies: str | os.PathLike) -> None:
    failed = [row for row in rows if row.state == State.UNWRITTEN]
    if failed:
        names = ", ".join(row.video_id for row in failed)
        raise EpicError(
            f"{copies}: {failed[0].reason}; no copy of {names}; the others are kept: make room "
            "(or set `videos: proxy: root:`), or wait for a free machine, and run again"
        )
