"""The page of `epic100 predict`: a film, its timeline, and what the model sees at each moment."""

import logging
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epic100.base.atomic import write_text
from epic100.pages.browse import as_script, write_site

log = logging.getLogger(__name__)

# The folder of what index.html loads. Browsers name it like this where they save a page.
FILES = "index_files"
SCRIPTS = ("dom", "grid", "timeline", "film")
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
        timeline: The timeline as `prediction.timeline.as_json` makes it; {}: the film was refused.
        names: Names of the classes `verb` and `noun`.
        lacks: Sentences on what the page cannot show, and why.
    """
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        log.warning(f"{page}: is not a page of films, so it stays, and none is made here")
        return
    files = page.parent / FILES
    data = _film_data(os.path.relpath(film, page.parent), timeline, lacks)
    write_text(files / f"{film.stem}{DATA}", as_script(data | {"name": film.stem, "names": names}))
    # Another process may add a film between the list and its writing.
    listed = None
    while listed != (found := sorted(path.name for path in files.glob(f"*{DATA}"))):
        listed = found
        write_text(files / "films.js", as_script([name.removesuffix(DATA) for name in found]))
    write_site(page, "film.html", SCRIPTS, files)


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
    lists = [clip[key] for key in ("actions", "verbs", "nouns") if key in clip]
    return [
        clip["start"],
        *([[value for key, value in each.items() if key != "name"] for each in of] for of in lists),
    ]
