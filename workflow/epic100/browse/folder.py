"""The folder results/browse/ with a page, its data and its clips, which needs no server."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.atomic import copy_file, writing
from epic100.base.folders import link_or_copy, new_folder
from epic100.browse.clips import read_clips
from epic100.browse.content import PREDICTED

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
SITE = Path(__file__).parent / "site"
DATA = "data.js"


def write_folder(
    page: PathLike, data: Mapping[str, Any], clips: Sequence[PathLike], max_mb: int
) -> None:
    """Write the folder of the page with its data and clips, in place of the old folder.

    The old folder is replaced when the new one is complete.

    Args:
        page: The page to write, index.html in the folder.
        data: The result of `content.gather`.
        clips: The tables of val's clips.
        max_mb: The clips in the folder take at most this many megabytes.

    Raises:
        DiskError: The folder cannot be written.
    """
    target = Path(page).parent
    with writing(target), new_folder(target) as folder:
        # By default, copytree collects the errors of all files and loses their causes. `copy_file`
        # raises a DiskError at the first one.
        shutil.copytree(SITE, folder, copy_function=copy_file, dirs_exist_ok=True)
        linked, left_out = _place_clips(data, read_clips(clips), folder / "clips", max_mb)
        script = as_script({**data, "clips": linked, "left_out": left_out, "max_mb": max_mb})
        (folder / DATA).write_text(script, encoding="utf-8")
    log.info(
        f"{page}: {len(data['segments']['id'])} segments, {len(linked)} clips; open it in a browser"
    )


def as_script(data: Any) -> str:
    """Write the data as JavaScript, since a page from disk may not read JSON files.

    All text is ASCII without `<`, so that no name can end a script element or open another one.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    return f"window.epicData = {text};\n"


def _place_clips(
    data: Mapping[str, Any], clips: Mapping[str, Path], target: Path, max_mb: int
) -> tuple[list[int], int]:
    """Link as many of val's clips into the folder of the page as fit.

    Segments with a wrong guess come first. Within these, and within the others, everybody's first
    clip comes before anybody's second one, so that no participant takes all the room.

    Args:
        data: The result of `content.gather`.
        clips: The file of each clip by the segment's narration_id.
        target: The folder for `{participant}/{narration_id}.mp4`.
        max_mb: The clips take at most this many megabytes.

    Returns:
        The numbers of the segments whose clips are there, and how many clips do not fit.
    """
    segments = data["segments"]
    participant = pd.Series([data["videos"]["participant"][video] for video in segments["video"]])
    table = pd.DataFrame(
        {
            "participant": participant,
            "source": [clips.get(narration_id) for narration_id in segments["id"]],
            "clip": participant + "/" + segments["id"] + ".mp4",
            "right": True,
        }
    )
    for run in data["runs"]:
        for task, guess_count in data["best"].items():
            truth = np.array(segments[task])[run["segment"]]
            # The guesses of all segments are one list. The first of each segment is the best.
            best_guesses = np.array(run[task])[::guess_count]
            table.loc[run["segment"], "right"] &= best_guesses == truth
    table = table[np.array(segments["split"]) == data["splits"].index(PREDICTED)]
    table = table[table["source"].notna()]
    # The turn of a clip is its place among the participant's own: 0 for everybody's first clip.
    turn = table.groupby(["right", "participant"]).cumcount()
    # False comes before True, so wrong guesses are first.
    order = table.assign(turn=turn).sort_values(["right", "turn"], kind="stable")
    bytes_so_far = np.cumsum([source.stat().st_size for source in order["source"]])
    fitting = order[bytes_so_far <= max_mb * 10**6]
    for source, clip in zip(fitting["source"], fitting["clip"], strict=True):
        (target / clip).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(source, target / clip)
    left_out = len(order) - len(fitting)
    if left_out:
        log.warning(
            f"{left_out} of {len(order)} clips do not fit into {max_mb} MB (`browse: max_mb:`)"
        )
    return sorted(fitting.index.tolist()), left_out
