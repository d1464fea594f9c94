"""results/browse/: a folder with a page, its data and its clips; opens without a server."""

import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.errors import DiskError
from epic100.browse.guesses import PREDICTED

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
SITE = Path(__file__).parent / "site"  # the page's own files, as they are
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
    with new_folder(Path(page).parent) as folder:
        shutil.copytree(SITE, folder, dirs_exist_ok=True)
        kept, left_out = _place_clips(data, Path(clips), folder / "clips", max_mb)
        more = {"clips": kept, "left_out": left_out, "max_mb": max_mb,
                "labels": _labels(data, Path(clips) / "list.txt")}  # fmt: skip
        (folder / DATA).write_text(as_script({**data, **more}), encoding="utf-8")
    log.info(f"{page}: {len(data['segments']['id'])} segments, {len(kept)} clips; open it in a "
             "browser")  # fmt: skip


def as_script(data: Mapping[str, Any]) -> str:
    """Write data as a script, since a page from disk may not read JSON files.

    All text is ASCII without `<`, so that no name can end a script element or open another one.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    return f"window.epicData = {text};\n"


def _place_clips(
    data: Mapping[str, Any], source: Path, target: Path, max_mb: int
) -> tuple[list[int], int]:
    """Link the clips that fit; return their segments, and how many clips do not fit."""
    segments = data["segments"]
    own = data["splits"].index(PREDICTED)
    owners = [data["videos"]["participant"][video] for video in segments["video"]]
    wrong = [False] * len(owners)
    for run in data["runs"]:
        for row, place in enumerate(run["segment"]):
            wrong[place] |= any(
                run[task][row * width] != segments[task][place]
                for task, width in data["best"].items()
            )
    names = [f"{owner}/{name}.mp4" for owner, name in zip(owners, segments["id"], strict=True)]
    sizes = {
        place: (source / name).stat().st_size
        for place, name in enumerate(names)
        if segments["split"][place] == own and (source / name).is_file()
    }
    kept = that_fit(sizes, in_order(wrong, owners), max_mb * 10**6)
    for place in kept:
        link_or_copy(source / names[place], target / names[place])
    left_out = len(sizes) - len(kept)
    if left_out:
        log.warning(f"{left_out} of {len(sizes)} clips do not fit into {max_mb} MB "
                    "(`browse: max_mb:`)")  # fmt: skip
    return sorted(kept), left_out


def _labels(data: Mapping[str, Any], path: Path) -> dict[int, int]:
    """The label of each segment in the list of clips, `{participant}/{narration_id}.mp4 LABEL`."""
    lines = (line.rsplit(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    labels = {Path(name).stem: int(label) for name, label in lines}
    return {place: labels[name] for place, name in enumerate(data["segments"]["id"])
            if name in labels}  # fmt: skip


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, which takes its place when all went well.

    Folders that a killed process left behind are removed. `target` may have one writer at a time.

    Raises:
        DiskError: The system refuses.
    """
    new, old = (
        target.with_name(f".{target.name}.{secrets.token_hex(8)}.{end}") for end in ("new", "old")
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{target.name}.*"):
            if left.suffix in (".new", ".old"):
                shutil.rmtree(left)
        new.mkdir()
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
    except OSError as error:
        raise DiskError(f"{target}: not written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def in_order(wrong: Sequence[bool], participants: Sequence[str]) -> list[int]:
    """Order segments by how much one wants to look at them.

    Segments with a wrong guess come first. Within these, and within the others, everybody's first
    segment comes before anybody's second one, so that no participant takes all the room.

    Args:
        wrong: Whether the guess of each segment is wrong.
        participants: The participant of each.

    Returns:
        Places of the segments, in this order.
    """
    table = pd.DataFrame({"right": ~np.array(wrong, dtype=bool), "owner": participants})
    table["before"] = table.groupby(["right", "owner"]).cumcount()
    places: list[int] = table.sort_values(["right", "before"], kind="stable").index.tolist()
    return places


def that_fit(sizes: Mapping[int, int], order: Sequence[int], most: int) -> list[int]:
    """Choose what fits into `most` bytes: in `order`, leaving out what is too large for the rest.

    Args:
        sizes: Bytes of the clips that exist, by segment.
        order: Segments, those to keep first.
        most: Bytes.

    Returns:
        The segments whose clips are kept, in `order`.
    """
    kept = []
    for place in order:
        size = sizes.get(place)
        if size is not None and size <= most:
            kept.append(place)
            most -= size
    return kept


def link_or_copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Make `target` the same file as `source`, or a copy where the disk has no hard links."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
