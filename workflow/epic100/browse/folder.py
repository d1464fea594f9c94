"""results/browse/: a folder with a page, its data and its clips; opens without a server."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.atomic import writing
from epic100.base.disk import read_text
from epic100.base.folders import link_or_copy, make_folder, new_folder
from epic100.browse.content import PREDICTED

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
SITE = Path(__file__).parent / "site"
PAGE, DATA = "index.html", "data.js"


def write_folder(page: PathLike, data: Mapping[str, Any], clips: PathLike, max_mb: int) -> None:
    """Write the page's folder anew; the old one is replaced when the new one is complete.

    Args:
        page: index.html in a folder of its own.
        data: The result of `content.gather`.
        clips: Folder of val's clips, `{participant}/{narration_id}.mp4`, and of their `list.txt`.
        max_mb: Most megabytes of clips.

    Raises:
        DiskError: The folder cannot be written.
    """
    target = Path(page).parent
    with writing(target), new_folder(target) as folder:
        shutil.copytree(SITE, folder, dirs_exist_ok=True)
        kept, left_out = _place_clips(data, Path(clips), folder / "clips", max_mb)
        clip_data = {
            "clips": kept,
            "left_out": left_out,
            "max_mb": max_mb,
            "labels": _labels(data, Path(clips) / "list.txt"),
        }
        (folder / DATA).write_text(as_script({**data, **clip_data}), encoding="utf-8")
    log.info(
        f"{page}: {len(data['segments']['id'])} segments, {len(kept)} clips; open it in a browser"
    )


def as_script(data: Mapping[str, Any]) -> str:
    """Write data as a script, since a page from disk may not read JSON files.

    All text is ASCII without `<`, so that no name can end a script element or open another one.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    return f"window.epicData = {text};\n"


def _place_clips(
    data: Mapping[str, Any], source: Path, target: Path, max_mb: int
) -> tuple[list[int], int]:
    """Link the clips that fit; return their segments, and how many clips do not fit.

    Segments with a wrong guess come first. Within these, and within the others, everybody's first
    clip comes before anybody's second one, so that no participant takes all the room.
    """
    segments = data["segments"]
    owner = pd.Series([data["videos"]["participant"][video] for video in segments["video"]])
    table = pd.DataFrame({"owner": owner, "clip": owner + "/" + segments["id"] + ".mp4"})
    table["right"] = True
    for run in data["runs"]:
        for task, width in data["best"].items():
            truth = np.array(segments[task])[run["segment"]]
            table.loc[run["segment"], "right"] &= np.array(run[task])[::width] == truth
    table = table[np.array(segments["split"]) == data["splits"].index(PREDICTED)]
    table = table[[(source / clip).is_file() for clip in table["clip"]]]
    order = table.assign(turn=table.groupby(["right", "owner"]).cumcount())
    order = order.sort_values(["right", "turn"], kind="stable")
    room = np.cumsum([(source / clip).stat().st_size for clip in order["clip"]])
    kept = order[room <= max_mb * 10**6]
    for clip in kept["clip"]:
        make_folder((target / clip).parent)
        link_or_copy(source / clip, target / clip)
    left_out = len(order) - len(kept)
    if left_out:
        log.warning(
            f"{left_out} of {len(order)} clips do not fit into {max_mb} MB (`browse: max_mb:`)"
        )
    return sorted(kept.index.tolist()), left_out


def _labels(data: Mapping[str, Any], path: Path) -> dict[int, int]:
    """The label of each segment in the list of clips, `{participant}/{narration_id}.mp4 LABEL`."""
    lines = (line.rsplit(" ", 1) for line in read_text(path).splitlines())
    labels = {Path(name).stem: int(label) for name, label in lines}
    return {
        number: labels[name] for number, name in enumerate(data["segments"]["id"]) if name in labels
    }
