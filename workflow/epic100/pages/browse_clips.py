"""Make the clips of the page: a small file for each segment that can be read.

Each video is read by its own process, which can be killed. The name of a clip says what it is made
from, so a run that was interrupted makes only the missing ones. A segment that cannot be read does
not stop the others; the table says why it has no clip.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.atomic import link_or_copy
from epic100.base.errors import EpicError
from epic100.base.guarded import FileError, call
from epic100.base.text_table import read_own_table, write_table
from epic100.data.segment_list import read_segments, row_numbers_by
from epic100.pages.browse_data import PREDICTED
from epic100.pages.clip_cutter import VERSION, Clip, cut_video
from epic100.settings.data import ScanLimits
from epic100.video.index import VideoIndex, load_index
from epic100.video.jobs import complete
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
# The columns of a participant's table of clips. The `file` is in the folder of the same name, or ""
# if the segment has none for a `reason`.
COLUMNS = ("narration_id", "file", "reason")


def make_clips(
    videos: Sequence[Video],
    root: PathLike,
    table: PathLike,
    *,
    segments: PathLike,
    index: PathLike,
    limits: ScanLimits,
    threads: int = 1,
    cut: Callable[..., dict[str, str]] = cut_video,
) -> dict[str, str]:
    """Cut the missing clips of a participant's segments, remove outdated ones, write the table.

    Args:
        videos: The participant's videos.
        root: Folder of the videos, or of their small copies.
        table: The table to write, with `COLUMNS` and a row for each segment. Clips go
            into the folder of the same name without the suffix.
        segments: A clean list.
        index: Frame indexes of the participant's files below `root`.
        limits: Limits on the time and memory for one video.
        threads: Number of videos that are cut at once.
        cut: The function that cuts the clips of a video, called in its process.

    Returns:
        For each segment without a clip, the reason by its narration_id.

    Raises:
        EpicError: The index of a video is missing, or the disk does not accept a clip; the latter
            is raised after all others are done.
    """
    # A job for each video that has segments.
    clean_list = read_segments(segments)
    row_numbers_of_path = row_numbers_by(clean_list, "path")
    folder = Path(table).with_suffix("")
    jobs = []
    for video in videos:
        row_numbers = row_numbers_of_path.get(video.path().as_posix())
        if row_numbers is not None:
            path, video_index = video.file(root), load_index(index, video.video_id)
            clips = _clips(clean_list.iloc[row_numbers], path, video_index, folder)
            jobs.append(ClipJob(video, path, video_index, clips, limits, cut))
    results, worked_count = complete(f"clips {folder.name}", jobs, threads, target=table)
    reasons = dict[str, str]()
    for reasons_of_video in results.values():
        reasons.update(reasons_of_video)

    # The table: a row for each segment, with its file, or the reason why it has none.
    files = dict[str, Path]()
    for job in jobs:
        files.update({name: clip.target for name, clip in job.clips.items()})
    rows = []
    for name, file in files.items():
        if name in reasons:
            rows.append((name, "", reasons[name]))
        else:
            rows.append((name, file.name, ""))
    write_table(table, COLUMNS, rows)
    # A file whose name begins with a dot is being written.
    for outdated in set(folder.glob("[!.]*.mp4")).difference(files.values()):
        outdated.unlink(missing_ok=True)
    for name, reason in reasons.items():
        log.warning(f"{name}: no clip: {reason}")
    log.info(
        f"{len(rows) - len(reasons)} of {len(rows)} segments have a clip; {worked_count} videos "
        "worked on now"
    )
    return reasons


def _clips(segments: pd.DataFrame, path: Path, index: VideoIndex, folder: Path) -> dict[str, Clip]:
    """Return the clips of a video's segments, files in `folder`, by narration_id.

    Raises:
        EpicError: A segment ends after the last frame of the index.
    """
    clips = {}
    for row in segments.to_dict("records"):
        name, start, stop = row["narration_id"], row["start"], row["stop"]
        if stop > index.frames:
            raise EpicError(
                f"{path}: {name} ends at frame {stop}, the index has {index.frames}; make the "
                "clean list again"
            )
        made_from = f"v{VERSION}-{index.md5[:16]}-{start}-{stop}"
        clips[name] = Clip(folder / f"{name}.{made_from}.mp4", start, stop)
    return clips


@dataclass
class ClipJob:
    """The job to cut the clips of one video, for `video.jobs.complete`."""

    video: Video
    path: Path
    index: VideoIndex
    clips: dict[str, Clip]
    limits: ScanLimits
    cut: Callable[..., dict[str, str]]

    @property
    def missing(self) -> dict[str, Clip]:
        """The clips that have no file, by narration_id. A file has its name only if complete."""
        return {name: clip for name, clip in self.clips.items() if not clip.target.is_file()}

    def settled_result(self) -> dict[str, str] | None:
        """Return that no segment lacks a clip, or None if one does."""
        return None if self.missing else {}

    def work(self, progress: Callable[[int], None]) -> dict[str, str]:
        """Cut the missing clips; return why segments still have none, by narration_id."""
        missing = self.missing
        # Each segment is decoded from a key frame on, so the limit grows with both lengths.
        frames = sum(clip.stop - clip.start for clip in missing.values())
        seconds = self.limits.total(self.video.duration + frames / self.video.fps)
        reasons, other_reason = dict[str, str](), "its process left no clip"
        try:
            reasons = call(
                self.cut,
                self.path,
                self.index,
                missing,
                limits=self.limits,
                seconds=seconds,
                progress=progress,
            )
        except FileError as error:
            other_reason = str(error)
        # The reason is a cell of a TSV, so it must have no tab and no line end.
        return {name: " ".join(reasons.get(name, other_reason).split()) for name in self.missing}


def read_clips(tables: Sequence[PathLike]) -> dict[str, Path]:
    """Read the tables of `make_clips`: the file of each clip, by its segment's narration_id."""
    about = f"a table of the rule browse_clips: {COLUMNS}"
    clips = dict[str, Path]()
    for table in tables:
        for row in read_own_table(table, dict.fromkeys(COLUMNS, str), about=about):
            # Without a name of a file, this is the path of the folder.
            path = Path(table).with_suffix("") / row["file"]
            if path.is_file():
                clips[row["narration_id"]] = path
    return clips


def place_clips(
    data: Mapping[str, Any], tables: Sequence[PathLike], target: Path, max_mb: int
) -> tuple[list[int], int]:
    """Link as many of val's clips into the folder of the page as fit.

    Segments with a wrong guess come first. Within these, and within the others, everybody's first
    clip comes before anybody's second one, so that no participant takes all the room.

    Args:
        data: The result of `browse_data.gather`.
        tables: The tables of `make_clips`.
        target: The folder for `{participant}/{narration_id}.mp4`.
        max_mb: The clips take at most this many megabytes.

    Returns:
        The numbers of the segments whose clips are there, and how many clips do not fit.
    """
    # The clips of val, by the numbers of their segments. `right` is whether all runs are right.
    segments, videos = data["segments"], data["videos"]
    table = pd.DataFrame({"name": segments["id"], "right": True})
    table["participant"] = [videos["participant"][video] for video in segments["video"]]
    table["source"] = table["name"].map(read_clips(tables))
    for run in data["runs"]:
        table.loc[run["segment"], "right"] &= np.array(run["right"], bool)
    is_val = np.array(segments["split"]) == data["splits"].index(PREDICTED)
    table = table[is_val & table["source"].notna()]

    # The turn of a clip is its place among the participant's own: 0 for everybody's first clip.
    turn = table.groupby(["right", "participant"]).cumcount()
    # False comes before True, so wrong guesses are first.
    order = table.assign(turn=turn).sort_values(["right", "turn"], kind="stable")
    bytes_so_far = np.cumsum([source.stat().st_size for source in order["source"]])
    fitting = order[bytes_so_far <= max_mb * 10**6]

    for clip in fitting.itertuples():
        (target / clip.participant).mkdir(parents=True, exist_ok=True)
        link_or_copy(clip.source, target / clip.participant / f"{clip.name}.mp4")
    left_out = len(order) - len(fitting)
    if left_out:
        log.warning(
            f"{left_out} of {len(order)} clips do not fit into {max_mb} MB (`browse: max_mb:`)"
        )
    return sorted(fitting.index.tolist()), left_out
