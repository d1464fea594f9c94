"""Small copies of a participant's videos; each is made by its own process, which can be killed.

Finished copies are kept, with notes beside them on what they were made from, so that a run that
was interrupted makes only the missing ones. A failure does not stop the others: where a copy cannot
be made, a link to the original takes its place, with the original's index, and this is logged.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.folders import make_folder
from epic100.base.guarded import FileError, ProcessError, call
from epic100.base.text_table import write_table
from epic100.proxy.encoder import copy_video, same_clock
from epic100.settings import ProxySettings, ScanLimits, Settings
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index, write_indexes
from epic100.video.jobs import complete, keep, kept
from epic100.video.scan_table import ScanRow, outside, read_scan_table
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

# Increase it when copies change, so that old ones are not used.
VERSION = 2


class State(StrEnum):
    """What exists for a video: a copy, the `original` (a link), or `none` (not readable)."""

    COPIED = "copied"
    ORIGINAL = "original"
    NONE = "none"


@dataclass(frozen=True)
class ProxyRow:
    """The copy of one video, or what takes its place; sizes in bytes.

    Attributes:
        stand_ins: Number of frames that are grey because the original gives no picture.
    """

    video_id: str
    state: State
    width: int = 0
    height: int = 0
    frames: int = 0
    stand_ins: int = 0
    bytes: int = 0
    original_bytes: int = 0
    reason: str = ""


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
    settings: Settings,
    threads: int = 1,
    encode: Callable[..., dict[str, Any]] = copy_video,
) -> list[ProxyRow]:
    """Make the missing copies of `videos`, at the same places below `copies` as below `root`.

    A video that `scan_table` calls unreadable gets no copy. `scan_index` has the originals' frame
    indexes. Writes `table`, one row per video for people, and `index`, an .npz of the copies'
    frame indexes for readers. Of `settings`, `videos: proxy:` and the limits in `scan:` are used.

    Raises:
        EpicError: The disk does not accept a copy; raised after all others are done.
    """
    scanned = {row.video_id: row for row in read_scan_table(scan_table)}
    jobs = []
    for video in videos:
        source, copy = video.file(root), video.path(copies)
        try:
            make_folder(copy.parent)
        except OSError as error:
            raise EpicError(
                f"{copy.parent}: {error.strerror}; copies go there, see `videos: proxy: root:` in "
                "the config"
            ) from error
        originals = {source.parent.resolve(), Path(root).resolve()}
        if originals & {copy.parent.resolve(), Path(copies).resolve()}:
            raise EpicError(
                f"{copy.parent}: holds the originals; copies need a folder of their own, see "
                "`videos: proxy: root:` in the config"
            )
        if video.video_id not in scanned:
            raise EpicError(
                f"{scan_index}: no row of {video.video_id} in the table beside it; scan its "
                "participant again"
            )
        scan_row, proxy = scanned[video.video_id], settings.videos.proxy or ProxySettings()
        jobs.append(
            _Job(video, scan_row, source, copy, Path(scan_index), proxy, settings.scan, encode)
        )
    folder_text = f"{copies} (`videos: proxy: root:`)"
    results, worked_count = complete(f"copy {Path(table).stem}", jobs, threads, folder_text)
    rows = [row for row, _ in results.values()]
    indexes = {name: copy_index for name, (_, copy_index) in results.items() if copy_index}
    write_indexes(indexes, index)
    write_table(
        table, [column.name for column in fields(ProxyRow)], (vars(r).values() for r in rows)
    )
    for row in rows:
        if row.state == State.ORIGINAL:
            log.warning(f"{row.video_id}: no copy, the original is read: {row.reason}")
        elif row.stand_ins:
            log.info(f"{row.video_id}: {row.stand_ins} damaged frames are grey in its copy")
    counts = Counter(row.state for row in rows)
    counted = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    size, original = (sum(getattr(r, n) for r in rows) / 1e6 for n in ("bytes", "original_bytes"))
    log.info(
        f"{len(rows)} videos: {counted}; {worked_count} of them worked on now; "
        f"{size:.1f} MB, the originals {original:.1f} MB"
    )
    return rows


@dataclass
class _Job:
    """The copy of one video."""

    video: Video
    scanned: ScanRow
    source: Path
    copy: Path
    scan_index: Path
    settings: ProxySettings
    limits: ScanLimits
    encode: Callable[..., dict[str, Any]]

    @cached_property
    def index(self) -> VideoIndex:
        """The original's frame index."""
        return load_index(self.scan_index, self.video.video_id)

    @property
    def key(self) -> str:
        """What a copy has to be made of: kept in the notes beside it."""
        made_of = {"version": VERSION, "md5": self.index.md5}
        return json.dumps(made_of | self.settings.stored())

    @property
    def notes(self) -> Path:
        """The file beside the copy."""
        return self.copy.with_suffix(".npz")

    def known(self) -> Result | None:
        """The result if there is nothing to copy, or the copy is whole and made from this file."""
        if not self.scanned.readable:
            return ProxyRow(self.video.video_id, State.NONE, reason=self.scanned.reason), None
        facts, copy_index = kept(self.notes)
        size = self.copy.stat().st_size if self.copy.is_file() else 0
        # The file's time does not count, because a copy that was touched is still valid.
        is_its = copy_index and (facts["key"], facts["bytes"]) == (self.key, size)
        if copy_index is None or not is_its or not same_clock(self.index, copy_index):
            return None
        sound = outside(self.scanned.damaged, self.index.frames)
        if beyond := np.count_nonzero(sound[facts["stand_ins"]]):
            reason = f"{beyond} frames that the scan calls sound do not decode"
            return self._original(reason), self.index
        row = ProxyRow(
            self.video.video_id,
            State.COPIED,
            facts["width"],
            facts["height"],
            facts["frames"],
            len(facts["stand_ins"]),
            size,
            self.source.stat().st_size,
        )
        return row, copy_index

    def work(self, progress: Callable[[int], None]) -> Result:
        """Make the copy; if that fails, link the original in place of it."""
        try:
            output = call(
                self.encode,
                self.source,
                self.copy,
                self.settings,
                self.index,
                limits=self.limits,
                seconds=self.limits.total(self.video.duration),
                progress=progress,
            )
            copy_index = VideoIndex.from_arrays(output["arrays"])
        except FileError as error:
            # Another attempt may have made the copy meanwhile.
            return self.known() or (self._original(str(error)), self.index)
        facts = output["facts"] | {"key": self.key, "bytes": self.copy.stat().st_size}
        keep(self.notes, facts, copy_index)
        if (result := self.known()) is None:
            raise ProcessError("the encoder left no copy")
        return result

    def _original(self, reason: str) -> ProxyRow:
        """Put a link to the original in place of the copy."""
        with atomic_path(self.copy) as temporary:
            temporary.unlink()
            temporary.symlink_to(self.source.resolve())
        self.notes.unlink(missing_ok=True)
        return ProxyRow(
            self.video.video_id,
            State.ORIGINAL,
            frames=self.index.frames,
            original_bytes=self.source.stat().st_size,
            reason=reason,
        )
