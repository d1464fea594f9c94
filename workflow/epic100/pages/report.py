"""What is written about a run: report.html, summary.txt and model_card.md.

The report needs no network. Text of the run (class names, reasons, error messages) is escaped by
the template. The page has one script, which sorts its tables. Its content security policy allows
that one by its digest, and forbids any other, as well as every request.
"""

import base64
import logging
import os
import platform
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from mmengine.config import ConfigDict

from epic100.base.atomic import write_text
from epic100.base.disk import read_json, retry_disk
from epic100.base.errors import EpicError
from epic100.base.text_table import read_frame
from epic100.data.cleaning import caution, salvage_lines
from epic100.data.official_lists import read_list
from epic100.data.segment_list import held_back
from epic100.model.hugging_face_folder import license_of
from epic100.model.model_file import digest, load_model
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
from epic100.scoring.evaluation import CAUSES

log = logging.getLogger(__name__)

PathLike = str | os.PathLike


def write_page(
    out: PathLike,
    *,
    metrics: Mapping[str, Any],
    salvage: PathLike,
    dropped: PathLike,
    examples: PathLike,
    figures: Mapping[str, PathLike],
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
        metrics: The content of the model's metrics.json.
        salvage: results/clean/salvage.tsv.
        dropped: results/clean/dropped.tsv.
        examples: The file of `pages.examples.write_examples`.
        figures: The SVG files, by their names in the template.
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
    salvage_rows = read_frame(salvage)
    # A class may be called `NA`, so only these columns have empty cells.
    empty = {"top1": [""], "top5": [""]}
    class_rows = read_frame(classes, keep_default_na=False, na_values=empty)
    saved = int((salvage_rows["kept_by_segment"] - salvage_rows["kept_by_video"]).sum())
    unseen_participants = read_list(str(unseen), "unseen_participants") if unseen else []
    page = template("report.html.j2").render(
        **_shared(metrics, dropped),
        about=about,
        official=official_rows(metrics, unseen_participants),
        segments=int(salvage_rows["segments"].sum()),
        kept=int(salvage_rows[f"kept_by_{policy}"].sum()),
        policy=policy,
        caution=caution(salvage_rows),
        dropped=dropped_counts(dropped),
        kept_by_split=kept_counts(salvage),
        figures={name: read_figure(path) for name, path in figures.items()},
        examples=read_json(examples),
        settings=pd.json_normalize(dict(settings)).to_dict("records")[0],
        pages=pages,
        steps=next_steps(metrics, history, policy, saved),
        classes=class_tables(class_rows),
        mistakes=mistakes_table(metrics, class_rows),
        people=people_table(metrics, salvage_rows, policy),
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
    kept = [*salvage_lines(read_frame(salvage)), *held_back(dropped)]
    shared = _shared(read_json(metrics), dropped)
    write_text(out, template("summary.txt.j2").render(shared, kept=kept))


def _shared(metrics: Mapping[str, Any], dropped: PathLike) -> dict[str, Any]:
    """Return what the report and the summary have both: metrics, warning, published models."""
    return {
        "metrics": metrics,
        "warning": warning(metrics, dropped),
        "published": published_rows(metrics),
        "causes": CAUSES,
    }


DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def read_figure(path: PathLike) -> dict[str, str]:
    """Read an SVG that `epic100.pages.figure_style.drawing` wrote, with its title and hint.

    Args:
        path: The SVG file.

    Returns:
        `title`, what the figure shows; `hint`, how to read it; `url`, the figure as a `data:`
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


PACKAGES = ("epic100", "mmaction2", "mmengine", "mmcv-lite", "torch", "av", "numpy")
LOADING = """\
from epic100.mmaction import open_recognizer
model = open_recognizer("{path}")
"""
# The value of such a key in a config counts as the path of a file, whatever it looks like.
WEIGHTS = ("load_from", "checkpoint", "pretrained")
# The statistics of BatchNorm are not learned, so they do not count as weights.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def write_model_card(
    model: PathLike,
    metrics: PathLike,
    dropped: PathLike,
    salvage: PathLike,
    files: Mapping[str, PathLike],
    out: PathLike,
) -> None:
    """Write the model card of a trained model.

    Args:
        model: The model file.
        metrics: The model's metrics.json on the val split.
        dropped: The table of dropped segments and reasons.
        salvage: The table of what each participant keeps.
        files: Files that the model was made from, by description; the card lists their SHA-256.
        out: The card, in Markdown.
    """
    own = load_model(model)
    backbone = ConfigDict(own.config).model.backbone
    folder = backbone.get("encoder_folder")
    learned = [own.state_dict[name] for name in own.state_dict if not name.endswith(STATISTICS)]
    versions = dict.fromkeys(PACKAGES, "not installed as a package")
    for package in distributions():
        if package.name in PACKAGES:
            versions[package.name] = package.version
    # The card names no folder of the machine.
    content = {
        "name": Path(model).name,
        "sha256": digest(model),
        "config": ConfigDict(without_folders(own.config)),
        "weights": sum(tensor.numel() for tensor in learned),
        "outputs": own.outputs,
        "backbone": backbone,
        "license": license_of(folder) if folder else None,
        "files": [(name, without_folders(str(path)), digest(path)) for name, path in files.items()],
        "dropped": dropped_counts(dropped),
        "caution": caution(read_frame(salvage)),
        "heads": own.heads,
        "trained_on": without_folders(own.trained_on),
        "metrics": read_json(metrics),
        "versions": {"Python": platform.python_version(), **versions},
        "loading": LOADING.format(path=model),
    }
    write_text(out, template("model_card.md.j2").render(content))
    log.info(f"{out} describes {model}")


def without_folders(value: Any, key: str = "") -> Any:
    """Cut each path of the machine down to the name of its file: `/data/k400.pth` to `k400.pth`.

    Relative paths and `file:` URLs are cut, too. Web addresses and other texts stay.

    Args:
        value: Plain values in dicts and lists.
        key: The key of the dict that holds `value`, if one does.
    """
    if isinstance(value, dict):
        return {name: without_folders(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_folders(item, key) for item in value)
    if not isinstance(value, str) or urlsplit(value).scheme in ("http", "https"):
        return value
    is_path = key in WEIGHTS or value.startswith(("/", "~", "file:", "./", "../"))
    return os.path.basename(value.rstrip("/")) if is_path else value
