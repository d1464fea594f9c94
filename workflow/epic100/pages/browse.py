"""The folder results/browse/ with a page, its data and its clips, which needs no server."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.base.atomic import copy_file, new_folder, write_text, writing
from epic100.pages.browse_clips import place_clips

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
SITE = Path(__file__).parent / "site"
DATA = "data.js"
# A script comes after those that it uses.
SCRIPTS = (
    *("dom", "segments", "runs", "filters", "form", "labels", "statistics", "grid", "lists"),
    *("confusion", "classes", "calibration", "timeline", "player", "viewer", "summary", "main"),
)


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
        write_site(folder / "index.html", "index.html", SCRIPTS, folder)
        linked, left_out = place_clips(data, clips, folder / "clips", max_mb)
        script = as_script({**data, "clips": linked, "left_out": left_out, "max_mb": max_mb})
        (folder / DATA).write_text(script, encoding="utf-8")
    log.info(
        f"{page}: {len(data['segments']['id'])} segments, {len(linked)} clips; open it in a browser"
    )


def write_site(page: Path, template: str, scripts: Sequence[str], files: Path) -> None:
    """Write a page, and what it loads: its style, and its scripts as one file.

    Args:
        page: The page to write.
        template: The file of `SITE` that becomes the page.
        scripts: Names of the scripts of `SITE` that it needs, in this order.
        files: The folder for style and scripts.
    """
    parts = [(SITE / f"{name}.js").read_text(encoding="utf-8") for name in scripts]
    write_text(files / "page.js", "\n".join(parts))
    copy_file(SITE / "browse.css", files / "browse.css")
    copy_file(SITE / template, page)


def as_script(data: Any) -> str:
    """Write the data as JavaScript, since a page from disk may not read JSON files.

    All text is ASCII without `<`, so that no name can end a script element or open another one.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    return f"window.epicData = {text};\n"
