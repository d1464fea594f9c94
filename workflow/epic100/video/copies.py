"""Make small copies of a participant's videos, each in its own process, which can be killed.

A file of notes next to each copy says what it was made from, so that a run that was interrupted
makes only the missing copies. A damaged video is read from the original: a link to it takes the
place of the copy, with the original's index. So it is if a copy cannot be made, which does not stop
the others.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.guarded import FileError, ProcessError, call
from epic100.base.text_table import write_table
from epic100.settings.data import ProxySettings, ScanLimits
from epic100.video.copy_encoder import copy_video, same_clock
from epic100.video.index import (
    VideoIndex,
    load_index,
    read_stored_result,
    store_result,
    write_indexes,
)
from epic100.video.jobs import complete
from epic100.video.scan_table import DAMAGED, FRAMES, ScanRow, read_scan_table
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

# Increase this number when copies change, so that old ones are not used.
VERSION = 3


# What a video has in the folder of copies: a copy, a link to the original, or nothing.
STATES = COPIED, ORIGINAL, NONE = "copied", "original", "none"


@dataclass(frozen=True)
class ProxyRow:
    """The row of one video in the table of copies; sizes are in bytes.

    Attributes:
        video_id: The id of the video.
        state: One of `STATES`.
        width: Width of the copy in pixels.
        height: Height of the copy in pixels.
        frames: Number of frames.
        bytes: Size of the copy.
        original_bytes: Size of the original.
        reason: Why there is no copy; `damaged` if the scan says so.
    """

    video_id: str
    state: str
    width: int = 0
    height: int = 0
    frames: int = 0
    bytes: int = 0
    original_bytes: int = 0
    reason: str = ""


# The row of a video, and the frame index of its copy or of the linked original.
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
    limits: ScanLimits,
    threads: int = 1,
    encode: Callable[..., dict[str, Any]] = copy_video,
) -> list[ProxyRow]:
    """Make the missing small copies of a participant's videos, and write a table and their indexes.

    A copy has the same path below `copies` as the original below `root`. Only a video that the scan
    calls ok gets one. A damaged one gets a link to the original, any other one nothing.

    Args:
        videos: The participant's videos.
        root: Folder of the originals.
        copies: Folder of the copies.
        scan_table: The scan table of the participant.
        scan_index: The frame indexes of the originals.
        table: The table to write, one row per video, for people.
        index: The .npz to write with the frame indexes of the copies.
        settings: How copies are made.
        limits: Limits on the time and memory for one video.
        threads: Number of copies that are made at once.
        encode: The function that makes a copy, called in a separate process.

    Returns:
        The rows of the table.

    Raises:
        EpicError: The disk does not accept a copy; raised after all others are done.
    """
    scan_rows = {row.video_id: row for row in read_scan_table(scan_table)}
    jobs = []
    for video in videos:
        source, copy = video.file(root), video.path(copies)
        _make_folder(copy.parent, Path(copies), originals=(source.parent, Path(root)))
        if video.video_id not in scan_rows:
            raise EpicError(
                f"{scan_index}: no row of {video.video_id} in the table next to it; scan its "
                "participant again"
            )
        jobs.append(
            _CopyJob(
                video=video,
                scan_row=scan_rows[video.video_id],
                source=source,
                copy=copy,
                scan_index=Path(scan_index),
                settings=settings,
                limits=limits,
                encode=encode,
            )
        )
    results, worked_count = complete(
        f"copy {Path(table).stem}", jobs, threads, target=f"{copies} (`videos: proxy: root:`)"
    )
    rows, indexes = list[ProxyRow](), dict[str, VideoIndex]()
    for row, video_index in results.values():
        rows.append(row)
        if video_index:
            indexes[row.video_id] = video_index
    write_indexes(indexes, index)
    columns = [column.name for column in fields(ProxyRow)]
    write_table(table, columns, (vars(row).values() for row in rows))
    _log_rows(rows, worked_count)
    return rows


def _make_folder(folder: Path, copies: Path, originals: tuple[Path, Path]) -> None:
    """Make the folder of a copy.

    Args:
        folder: The folder to make.
        copies: The folder of all copies.
        originals: The folder of the original, and the folder of all originals.

    Raises:
        EpicError: It cannot be made, or originals are in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EpicError(
            f"{folder}: {error.strerror}; copies go there, see `videos: proxy: root:` in the config"
        ) from error
    if {folder.resolve(), copies.resolve()} & {path.resolve() for path in originals}:
        raise EpicError(
            f"{folder}: holds the originals; copies need a folder of their own, see `videos: "
            "proxy: root:` in the config"
        )


def _log_rows(rows: Sequence[ProxyRow], worked_count: int) -> None:
    """Log which videos have no copy, and a summary: `2 videos: 2 copied; 1 of them worked ...`."""
    # What is usual is one line for all videos, and anything else a line for each.
    usual_reasons = {DAMAGED: "damaged videos", FRAMES: "videos of extracted frames"}
    for reason, videos_text in usual_reasons.items():
        names = [row.video_id for row in rows if row.reason == reason]
        if names:
            log.info(f"{len(names)} {videos_text} are read from the originals: {', '.join(names)}")
    for row in rows:
        if row.state == ORIGINAL and row.reason not in usual_reasons:
            log.warning(f"{row.video_id}: no copy, the original is read: {row.reason}")
    counts = Counter(row.state for row in rows)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    log.info(
        f"{len(rows)} videos: {states}; {worked_count} of them worked on now; "
        f"{sum(row.bytes for row in rows) / 1e6:.1f} MB, "
        f"the originals {sum(row.original_bytes for row in rows) / 1e6:.1f} MB"
    )


@dataclass
class _CopyJob:
    """The job to make the copy of one video, for `video.jobs.complete`.

    Attributes:
        video: The row of the sheet.
        scan_row: The row of the scan table.
        source: The original.
        copy: The path of the copy.
        scan_index: The file with the frame index of the original.
        settings: How the copy is made.
        limits: Limits on the time and memory.
        encode: The function that makes the copy in a separate process, e.g. `copy_video`.
    """

    video: Video
    scan_row: ScanRow
    source: Path
    copy: Path
    scan_index: Path
    settings: ProxySettings
    limits: ScanLimits
    encode: Callable[..., dict[str, Any]]

    @cached_property
    def index(self) -> VideoIndex:
        """The frame index of the original."""
        return load_index(self.scan_index, self.video.video_id)

    @property
    def key(self) -> str:
        """What the copy is made from, as JSON: the version, the original's md5 and the settings.

        It is in the notes of the copy. A copy with another key is out of date.
        """
        made_from = {"version": VERSION, "md5": self.index.md5}
        return json.dumps(made_from | self.settings.stored())

    @property
    def notes_path(self) -> Path:
        """The path of the notes, a file next to the copy."""
        return self.copy.with_suffix(".npz")

    def settled_result(self) -> Result | None:
        """Return the result if nothing is left to do: the copy is up to date, or there is none.

        The link to a damaged original, or to extracted frames, is made here.

        Returns:
            None if the copy is missing, not complete, or made from something else.
        """
        if not self.scan_row.readable:
            return ProxyRow(self.video.video_id, NONE, reason=self.scan_row.reason), None
        # Extracted frames are small, and each is a key frame.
        is_frames = self.scan_row.judged == FRAMES
        if is_frames or self.scan_row.status == DAMAGED:
            return self._link_original(FRAMES if is_frames else DAMAGED), self.index
        notes, copy_index = read_stored_result(self.notes_path)
        size = self.copy.stat().st_size if self.copy.is_file() else 0
        # The file's time is not compared, because a copy that was touched is still valid.
        if copy_index is None or notes["key"] != self.key or notes["bytes"] != size:
            return None
        if not same_clock(self.index, copy_index):
            return None
        row = ProxyRow(
            self.video.video_id,
            COPIED,
            width=copy_index.stream.width,
            height=copy_index.stream.height,
            frames=copy_index.frames,
            bytes=size,
            original_bytes=self.source.stat().st_size,
        )
        return row, copy_index

    def work(self, progress: Callable[[int], None]) -> Result:
        """Make the copy; if the original has a defect, put a link to it in place of the copy.

        Raises:
            ProcessError: The copy is missing, and not because of the original.
        """
        try:
            arrays = call(
                self.encode,
                self.source,
                self.copy,
                self.settings,
                self.index,
                limits=self.limits,
                seconds=self.limits.total(self.video.duration),
                progress=progress,
            )
            copy_index = VideoIndex.from_arrays(arrays)
        except FileError as error:
            # Another run at the same time may have made the copy meanwhile. A link in its place
            # would take it away.
            return self.settled_result() or (self._link_original(str(error)), self.index)
        notes = {"key": self.key, "bytes": self.copy.stat().st_size}
        store_result(self.notes_path, notes, copy_index)
        if (result := self.settled_result()) is None:
            raise ProcessError("the encoder left no copy")
        return result

    def _link_original(self, reason: str) -> ProxyRow:
        """Put a link to the original in place of the copy, and return its row."""
        with atomic_path(self.copy) as temporary:
            temporary.unlink()  # A link can only be made if no file has its name.
            temporary.symlink_to(self.source.resolve())
        # The notes describe a copy, and there is none now.
        self.notes_path.unlink(missing_ok=True)
        return ProxyRow(
            self.video.video_id,
            ORIGINAL,
            frames=self.index.frames,
            original_bytes=self.source.stat().st_size,
            reason=reason,
        )
