"""Cut the segments of a clean list into clips, a file each, and list them for MMAction2.

Each video is cut by its own process (`cutter`), which can be killed. Existing clips of the same
frames are not cut again, so that a run that was interrupted makes only the missing ones. A segment
that cannot be cut does not stop the others; the participant's table says why.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from epic100.base.atomic import write_text
from epic100.base.errors import EpicError
from epic100.base.guarded import FileError, call
from epic100.base.text_table import read_own_table, write_table
from epic100.proxy.cutter import Clip, clip_key, cut_clips
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import NO_LABEL, read_clean_list, read_segments, row_numbers_by
from epic100.settings import ClipSettings, ScanLimits, Settings
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index
from epic100.video.jobs import complete
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

# The columns of a participant's table of clips, and the types of their values.
KINDS = {"narration_id": str, "frames": int, "bytes": int, "reason": str}
COLUMNS = tuple(KINDS)
Row = tuple[str, int, int, str]


def cut_participant(
    videos: Sequence[Video],
    root: str | os.PathLike,
    table: str | os.PathLike,
    *,
    segments: str | os.PathLike,
    index: str | os.PathLike,
    settings: Settings,
    threads: int = 1,
    cut: Callable[..., dict[str, str]] = cut_clips,
) -> list[Row]:
    """Cut the missing clips of a participant's segments, and write a table of all clips.

    A clip is the file `{narration_id}.mp4`.

    Args:
        videos: The participant's videos.
        root: Folder of the videos, or of their small copies.
        table: The table to write, with `COLUMNS` and a row per segment. Clips go into the folder of
            the same name without the suffix.
        segments: A clean list.
        index: Frame indexes of the participant's files below `root`.
        settings: The settings; the section `clips:` and the limits in `scan:` are used.
        threads: Number of videos that are cut at once.
        cut: The function that cuts the clips of a video, called in a process of its own.

    Returns:
        The rows of the table, in order of video and segment.

    Raises:
        EpicError: The index of a video is missing, or the disk does not accept a clip; the latter
            is raised after all others are done.
    """
    clean_list = read_segments(segments)
    row_numbers_of_path = row_numbers_by(clean_list, "path")
    jobs = [
        _Job(
            video=video,
            path=video.file(root),
            index=load_index(index, video.video_id),
            segments=clean_list.iloc[row_numbers_of_path[video.path().as_posix()]],
            folder=Path(table).with_suffix(""),
            settings=settings.clips,
            limits=settings.scan,
            cut=cut,
        )
        for video in videos
        if video.path().as_posix() in row_numbers_of_path
    ]
    results, worked_count = complete(
        f"clips {Path(table).parent.name} {Path(table).stem}", jobs, threads, target=table
    )
    rows = [row for video_rows in results.values() for row in video_rows]
    write_table(table, COLUMNS, rows)
    for name, _, _, reason in rows:
        if reason:
            log.warning(f"{name}: no clip: {reason}")
    cut_count = sum(not reason for *_, reason in rows)
    total_bytes = sum(clip_bytes for _, _, clip_bytes, _ in rows)
    log.info(
        f"{cut_count} of {len(rows)} segments are cut, {total_bytes / 1e6:.1f} MB; "
        f"{worked_count} videos worked on now"
    )
    return rows


@dataclass
class _Job:
    """The job to cut the clips of one video, for `video.jobs.complete`."""

    video: Video
    path: Path
    index: VideoIndex
    segments: pd.DataFrame
    folder: Path
    settings: ClipSettings
    limits: ScanLimits
    cut: Callable[..., dict[str, str]]

    @cached_property
    def clips(self) -> dict[str, Clip]:
        """The clips of the video's segments, by narration_id."""
        clips = {}
        for row in self.segments.to_dict("records"):
            name, start, stop = row["narration_id"], row["start"], row["stop"]
            if stop > self.index.frames:
                raise EpicError(
                    f"{self.path}: {name} ends at frame {stop}, the index has "
                    f"{self.index.frames}; make the clean list again"
                )
            key = clip_key(self.index, self.settings, start, stop)
            clips[name] = Clip(str(self.folder / f"{name}.mp4"), start, stop, key)
        return clips

    def settled_result(self) -> list[Row] | None:
        """Return the rows of the table if no clip is missing, else None."""
        rows = self._rows(reasons={})
        return None if any(reason for *_, reason in rows) else rows

    def work(self, progress: Callable[[int], None]) -> list[Row]:
        """Cut the missing clips, and return the rows of the table for all clips of the video."""
        missing = [clip for clip in self.clips.values() if not clip.is_there()]
        # The video is decoded once and each clip is encoded, so the limit grows with both lengths.
        frames_to_write = sum(clip.stop - clip.start for clip in missing)
        seconds = self.video.duration + frames_to_write / self.video.fps
        try:
            reasons = call(
                self.cut,
                self.path,
                self.index,
                missing,
                self.settings,
                limits=self.limits,
                seconds=self.limits.total(seconds),
                progress=progress,
            )
        except FileError as error:
            reasons = dict.fromkeys((clip.target for clip in missing), str(error))
        return self._rows(reasons)

    def _rows(self, reasons: dict[str, str]) -> list[Row]:
        """Make the rows of the table, with the size of each clip or the reason why it is missing.

        Args:
            reasons: The known reasons, by the path of the clip.
        """
        rows = []
        for name, clip in self.clips.items():
            frames = clip.stop - clip.start
            if clip.is_there():
                rows.append((name, frames, Path(clip.target).stat().st_size, ""))
            else:
                reason = reasons.get(clip.target) or "its process left no clip"
                # The reason is a cell of a TSV, so it must have no tab and no line end.
                rows.append((name, frames, 0, " ".join(reason.split())))
        return rows


def write_list(
    segments: str | os.PathLike,
    pairs: str | os.PathLike,
    tables: Sequence[str | os.PathLike],
    out: str | os.PathLike,
) -> None:
    """Write the list of a split's clips in the format of MMAction2's `VideoDataset`.

    A line is `P01/P01_01_7.mp4 12`: the file and its label. The label is the row of the segment's
    pair in the pair table, as in training; -1 if the pair is not in it or the segment has no label.
    Segments without a clip are left out.

    Args:
        segments: The clean list.
        pairs: The pair table.
        tables: The tables of `cut_participant`.
        out: The list to write.

    Raises:
        EpicError: A segment is in none of the tables.
    """
    reasons = dict[str, str]()
    total_bytes = 0
    for table in tables:
        for clip_row in read_own_table(table, KINDS, about=f"a table of the rule clips: {COLUMNS}"):
            reasons[clip_row["narration_id"]] = clip_row["reason"]
            total_bytes += clip_row["bytes"]
    label_of_pair = {
        (verb, noun): number for number, (verb, noun, _) in enumerate(read_pairs(pairs))
    }
    lines = []
    for row in read_clean_list(segments).to_dict("records"):
        name = row["narration_id"]
        if name not in reasons:
            raise EpicError(
                f"{segments}: {name} is in no table of clips; expected its video, {row['path']}, "
                f"in the sheet's split {Path(segments).stem}; correct the sheet or the annotations"
            )
        if not reasons[name]:
            label = label_of_pair.get((row["verb"], row["noun"]), NO_LABEL)
            lines.append(f"{Path(row['path']).parent.name}/{name}.mp4 {label}\n")
    write_text(out, "".join(lines))
    log.info(f"{out}: {len(lines)} clips of {len(reasons)} segments, {total_bytes / 1e6:.1f} MB")
    if unlabelled := sum(line.endswith(f" {NO_LABEL}\n") for line in lines):
        log.info(
            f"{unlabelled} of them have the label -1: {pairs} has no such pair, or no label is "
            "known"
        )
