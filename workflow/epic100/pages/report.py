"""results/report.html, a page with a run's figures and pictures, and results/summary.txt.

The page needs no network. Text of the run (class names, reasons, error messages) is escaped by the
template. The page has one script, which sorts its tables. Its content security policy allows that
one by its digest, and forbids any other, as well as every request.
"""

import base64
import logging
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from epic100.base.atomic import write_text
from epic100.base.disk import read_json, retry_disk
from epic100.base.errors import EpicError
from epic100.base.text_table import read_frame
from epic100.data.cleaning import caution, salvage_lines
from epic100.data.official_lists import read_list
from epic100.data.segment_list import held_back
from epic100.pages.report_tables import (
    class_tables,
    dropped_counts,
    kept_counts,
    mistakes_table,
    next_steps,
    official_rows,
    people_table,
    published_rows,
    warning,
)
from epic100.pages.template import template
from epic100.scoring.published import CAUSES

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def write_page(
    out: PathLike,
    *,
    metrics: PathLike,
    salvage: PathLike,
    dropped: PathLike,
    examples: PathLike,
    pictures: Mapping[str, PathLike],
    policy: str,
    settings: Mapping[str, Any],
    pages: Mapping[str, str],
    classes: PathLike,
    about: Sequence[str],
    history: pd.DataFrame | None = None,
    unseen: PathLike | None = None,
) -> None:
    """Write the report of a run, results/report.html.

    Args:
        out: The HTML file.
        metrics: The model's metrics.json.
        salvage: results/clean/salvage.tsv.
        dropped: results/clean/dropped.tsv.
        examples: The file of `pages.examples.write_examples`.
        pictures: The SVG files, by their names in the template.
        policy: The cleaning policy of the run.
        settings: The settings of the run's config that are no defaults, by section and key.
        pages: Addresses of other pages of the run, by what they show.
        classes: The table of `pages.examples.by_class`.
        about: When, where and of what the run was made: the first line of the page.
        history: The epochs of the training, if the model was trained here.
        unseen: The official list of participants without a video in train, if there is one.

    Raises:
        EpicError: An input is wrong.
    """
    figures = read_json(metrics)
    salvage_rows = read_frame(salvage)
    # A class may be called `NA`, so only these columns have empty cells.
    empty = {"top1": [""], "top5": [""]}
    class_rows = read_frame(classes, keep_default_na=False, na_values=empty)
    saved = int((salvage_rows["kept_by_segment"] - salvage_rows["kept_by_video"]).sum())
    unseen_participants = read_list(str(unseen), "unseen_participants") if unseen else []
    page = template("report.html.j2").render(
        about=about,
        figures=figures,
        warning=warning(figures, dropped),
        official=official_rows(figures, unseen_participants),
        published=published_rows(figures),
        causes=CAUSES,
        segments=int(salvage_rows["segments"].sum()),
        kept=int(salvage_rows[f"kept_by_{policy}"].sum()),
        policy=policy,
        caution=caution(salvage_rows),
        dropped=dropped_counts(dropped),
        kept_by_split=kept_counts(salvage),
        pictures={name: read_picture(path) for name, path in pictures.items()},
        examples=read_json(examples),
        settings=pd.json_normalize(dict(settings)).to_dict("records")[0],
        pages=pages,
        steps=next_steps(figures, history, policy, saved),
        classes=class_tables(class_rows),
        mistakes=mistakes_table(figures, class_rows),
        people=people_table(figures, salvage_rows, policy),
    )
    write_text(out, page)
    log.info(f"{out}: {len(page) / 1e6:.1f} MB, opens in any browser without a network")


def write_summary(salvage: PathLike, metrics: PathLike, dropped: PathLike, out: PathLike) -> None:
    """Write the summary of a run: kept segments and accuracies, on one screen.

    A warning, if there is one, is its first line.

    Args:
        salvage: results/clean/salvage.tsv.
        metrics: The model's metrics.json.
        dropped: results/clean/dropped.tsv.
        out: The text file to write.
    """
    figures = read_json(metrics)
    text = template("summary.txt.j2").render(
        figures=figures,
        warning=warning(figures, dropped),
        kept=[*salvage_lines(read_frame(salvage)), *held_back(dropped)],
        published=published_rows(figures),
        causes=CAUSES,
    )
    write_text(out, text)


def read_picture(path: PathLike) -> dict[str, str]:
    """Read an SVG that `epic100.pages.figure_style.drawing` wrote, with its title and hint.

    Args:
        path: The SVG file.

    Returns:
        `title`, what the picture shows; `hint`, how to read it; `url`, the picture as a `data:`
        URL. A browser runs and loads nothing for an SVG in an `img`.

    Raises:
        EpicError: The file is no SVG.
    """
    content = retry_disk(path, "reading", Path(path).read_bytes)
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise EpicError(
            f"{path}: no SVG file ({error}); make it again: snakemake -R {path}"
        ) from error
    return {
        "title": root.findtext(f".//{DUBLIN_CORE}title") or "",
        "hint": root.findtext(f".//{DUBLIN_CORE}description") or "",
        "url": f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}",
    }
