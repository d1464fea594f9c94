"""Folders with a page that needs no server: results/browse/, and the films of `epic100 predict`."""

import json
import logging
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.base.atomic import copy_file, new_folder, write_text, writing
from epic100.pages.browse_clips import place_clips

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
SITE = Path(__file__).parent / "site"
# The scripts of the page: these, then the one of each tab (`tab_scripts`), then those that use all
# of them. A script comes after those that it uses.
FIRST_SCRIPTS = (
    "dom",
    "segments",
    "runs",
    "filters",
    "form",
    "labels",
    "statistics",
    "grid",
    "lists",
)
LAST_SCRIPTS = ("timeline", "player", "viewer", "summary", "main")
# A tab of index.html, e.g. `role="tabpanel" id="confusion"`.
TAB = re.compile(r'role="tabpanel" id="(\w+)"')


def write_folder(
    page: PathLike, data: Mapping[str, Any], clips: Sequence[PathLike], max_mb: int
) -> None:
    """Write the folder of the page with its data and clips, in place of the old folder.

    The old folder is replaced when the new one is complete.

    Args:
        page: The page to write, index.html in the folder.
        data: The result of `browse_data.gather`.
        clips: The tables of val's clips.
        max_mb: The clips in the folder take at most this many megabytes.

    Raises:
        DiskError: The folder cannot be written.
    """
    target = Path(page).parent
    with writing(target), new_folder(target) as folder:
        scripts = [*FIRST_SCRIPTS, *tab_scripts(), *LAST_SCRIPTS]
        _write_site(folder / "index.html", "index.html", scripts, folder)
        linked, left_out = place_clips(data, clips, folder / "clips", max_mb)
        script = as_script({**data, "clips": linked, "left_out": left_out, "max_mb": max_mb})
        (folder / "data.js").write_text(script, encoding="utf-8")
    log.info(
        f"{page}: {len(data['segments']['id'])} segments, {len(linked)} clips; open it in a browser"
    )


def tab_scripts() -> list[str]:
    """List the scripts of the tabs of index.html, which have the same names as the tabs.

    The other tabs are drawn by main.js.
    """
    tabs = TAB.findall((SITE / "index.html").read_text(encoding="utf-8"))
    return [tab for tab in tabs if tab not in FIRST_SCRIPTS and (SITE / f"{tab}.js").is_file()]


# The folder of what index.html loads. Browsers name it like this where they save a page.
FILES = "index_files"
FILM_SCRIPTS = ("dom", "grid", "timeline", "film")
# A page with this line was written here, so it may be replaced.
MARK = '<meta name="generator" content="epic100 predict">'
DATA = ".film.js"
ACTION = ("start", "stop", "verb", "noun", "probability")
# Any browser plays a film that FFmpeg encodes with these options.
ENCODING = ("-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "faststart")


def add_film(
    page: Path,
    film: Path,
    timeline: Mapping[str, Any],
    names: Mapping[str, list[str]],
    lacks: list[str],
) -> None:
    """Write the data of a film, and the page of all films whose data are in its folder.

    Several processes may add films to one page at the same time.

    Args:
        page: The page, index.html in the folder of the timelines.
        film: The film. The page links it by a relative path.
        timeline: The timeline as `prediction.timeline.as_json` makes it; {}: the film was rejected.
        names: Names of the classes `verb` and `noun`.
        lacks: Sentences on what the page cannot show, and why.
    """
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        log.warning(f"{page}: is not a page of films, so it stays, and none is made here")
        return
    files = page.parent / FILES
    data = _film_data(os.path.relpath(film, page.parent), timeline, lacks)
    write_text(files / f"{film.stem}{DATA}", as_script(data | {"name": film.stem, "names": names}))
    # Another process may add a film between the list and its writing, so it is written until it is
    # complete.
    written = None
    while written != (found := sorted(path.name for path in files.glob(f"*{DATA}"))):
        written = found
        write_text(files / "films.js", as_script([name.removesuffix(DATA) for name in found]))
    _write_site(page, "film.html", FILM_SCRIPTS, files)


def _film_data(file: str, timeline: Mapping[str, Any], lacks: list[str]) -> dict[str, Any]:
    """Make the data of a film as rows of numbers, since a film may last hours.

    Args:
        file: The film, relative to the page.
        timeline: The timeline as JSON, or {}.
        lacks: Sentences on what the page cannot show.

    Returns:
        `actions` are rows [start, stop, verb, noun, probability]. `clips` are rows [start, actions,
        verbs, nouns], where each of the most probable ones is [*ids, probability], or [start] where
        the film is damaged. The line `command` makes `copy`, which any browser plays.
    """
    actions, clips = timeline.get("segments", []), timeline.get("clips", [])
    if timeline and not any("actions" in clip for clip in clips):
        lacks = [*lacks, "All of this film is damaged, so the model has seen nothing of it."]
    elif timeline and not actions:
        lacks = [*lacks, "No action is as probable and lasts as long as the settings ask for."]
    copy = f"{FILES}/{Path(file).stem}.mp4"
    return {
        "file": file,
        "copy": copy,
        "command": shlex.join(["ffmpeg", "-i", file, *ENCODING, copy]),
        "lacks": lacks,
        "seconds": timeline.get("duration", 0),
        "damaged": timeline.get("damaged", []),
        "actions": [[row[key] for key in ACTION] for row in actions],
        "clips": [_clip_row(clip) for clip in clips],
    }


def _clip_row(clip: Mapping[str, Any]) -> list[Any]:
    """Write a clip of a timeline as a row: [start, actions, verbs, nouns], or [start]."""
    row = [clip["start"]]
    for key in ("actions", "verbs", "nouns"):
        if key in clip:
            guesses = []
            for guess in clip[key]:
                # The page has the names of the classes.
                guesses.append([value for name, value in guess.items() if name != "name"])
            row.append(guesses)
    return row


def _write_site(page: Path, template: str, scripts: Sequence[str], files: Path) -> None:
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
