"""Runs side by side, results/compare.tsv and compare.html: metrics, settings, differences.

The page needs no network and fits a phone.
"""

import base64
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from epic100.base.atomic import links, write_text
from epic100.base.disk import read_json
from epic100.base.errors import DiskError, EpicError
from epic100.base.text_table import write_frame
from epic100.pages.bootstrap import RESAMPLES, Counts, by_video, difference, draw_videos
from epic100.pages.figure_style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from epic100.pages.template import template
from epic100.scoring.epoch_table import FILE, read_epochs
from epic100.scoring.metrics import TASKS, wilson
from epic100.scoring.outcomes import LabelTable, read_correct
from epic100.settings.config import DEFAULT, RESULTS

log = logging.getLogger(__name__)

# The groups of segments that all runs share. Which segments are readable depends on the run.
GROUPS = ("overall", "unseen", "tail")
# Groups and tasks have these keys here and on the page.
KEYS = tuple(f"{group}_{task}" for group in GROUPS for task in TASKS)
# These metrics of metrics.json are columns of the table.
METRICS = tuple(f"{key}_accuracy_at_1" for key in KEYS)
# These stand for what a run does not have, and for what its config leaves to the default.
NO_VALUE, DEFAULT_VALUE = "-", "default"


@dataclass(frozen=True)
class Run:
    """A finished run with its metrics and its settings.

    Attributes:
        name: The run's name; `default` for the run in `results/`.
        folder: The folder with the run's files.
        metrics: The content of metrics.json.
        settings: The config by dotted key, such as `train.epochs`; empty if it is not known.
        right: For each video, the segments that the run has right, by `KEYS`.
        history: The epochs of the training, if the model was trained here.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    settings: dict[str, str]
    right: dict[str, Counts]
    history: pd.DataFrame | None

    def setting(self, name: str) -> str:
        """Return the value of a key of the config; `-` where the run has no such section."""
        section = name.partition(".")[0]
        has_section = any(key.startswith(f"{section}.") for key in self.settings)
        # A recipe has a digest for each of its files, and none of the files of other recipes.
        unset = DEFAULT_VALUE if has_section and section != "content" else NO_VALUE
        return self.settings.get(name, unset)

    @property
    def cost(self) -> str:
        """The time of the training on all of its GPUs or cores, such as `12.3 GPU h`."""
        if self.history is None:
            return NO_VALUE
        hours, trained_on = self.history["seconds"].sum() / 3600, self.metrics["trained_on"]
        for unit, name in (("gpus", "GPU h"), ("cores", "CPU h")):
            if unit in trained_on:
                return f"{hours * trained_on[unit]:.2f} {name}"
        return f"{hours:.2f} h"


@dataclass(frozen=True)
class Comparison:
    """Finished runs on the same segments.

    Attributes:
        runs: The runs; the table compares them with the first.
        sizes: For each video, the segments of a group, by `KEYS`.
        drawn: The result of `bootstrap.draw_videos`.
        segments: Number of segments.
        notes: What a run lacks, or why it is not shown, a sentence each.
    """

    runs: list[Run]
    sizes: dict[str, Counts]
    drawn: npt.NDArray[np.int64]
    segments: int
    notes: list[str]


def read_runs(
    folders: Sequence[str | os.PathLike],
    labels: LabelTable,
    classes: Mapping[str, int],
    notes: Sequence[str] = (),
) -> Comparison:
    """Read finished runs. A run that cannot be compared becomes a note.

    Args:
        folders: Folders with metrics.json and predictions/val.pt, and training.tsv of a run that
            was trained here.
        labels: The val split.
        classes: Numbers of `verbs` and `nouns`.
        notes: Further notes.

    Raises:
        EpicError: No run can be compared.
        DiskError: The disk fails.
    """
    runs: list[Run] = []
    said = [*notes]
    for folder in map(Path, folders):
        try:
            run = _read_run(folder, labels, classes)
        except DiskError:
            # The same command may read the file next time.
            raise
        except EpicError as error:
            said.append(f"not shown: {folder}: {str(error).removeprefix(f'{folder}/')}")
            continue
        runs.append(run)
        if not run.settings:
            said.append(f"{run.name}: version 0.2.0 wrote its metrics.json, without its config")
        if run.history is None:
            said.append(f"{run.name}: its model was made elsewhere, so it has no time and no curve")
    for note in said:
        log.warning(note)
    if not runs:
        why = "; ".join(said) or "`snakemake results/metrics.json` makes one"
        raise EpicError(f"no finished run to show; {why}")
    every_segment = dict.fromkeys(TASKS, np.ones(len(labels.ids), dtype=bool))
    sizes = _counts(every_segment, labels)
    return Comparison(
        runs, sizes, drawn=draw_videos(labels.video_count), segments=len(labels.ids), notes=said
    )


def _read_run(folder: Path, labels: LabelTable, classes: Mapping[str, int]) -> Run:
    """Read the files of a run.

    Raises:
        EpicError: A file is missing or wrong, or of other segments or classes.
    """
    metrics = _read_metrics(folder / "metrics.json", len(labels.ids))
    sizes = (classes["verbs"], classes["nouns"])
    correct = read_correct(
        folder / "predictions/val.pt", labels, reduce=metrics["reduce"], sizes=sizes
    )
    right = _counts({task: correct[f"{task}_at_1"] for task in TASKS}, labels)
    # By dotted key, e.g. {"train": {"epochs": 8}} -> {"train.epochs": 8}. There is no row if the
    # run's settings are not known.
    settings = {}
    for values in pd.json_normalize(metrics.get("settings", {})).to_dict("records"):
        for key, value in values.items():
            if value is not None:
                settings[str(key)] = value if isinstance(value, str) else json.dumps(value)
    history = None
    if (folder / FILE).is_file():
        history = read_epochs(folder / FILE)
    name = DEFAULT if folder.as_posix() == RESULTS else folder.name
    return Run(name, folder, metrics, settings, right, history)


def _counts(chosen: Mapping[str, np.ndarray], labels: LabelTable) -> dict[str, Counts]:
    """Count the chosen segments, bool [N] by task, of each group in each video, by `KEYS`."""
    return {
        f"{group}_{task}": by_video(chosen[task] & labels.members[group][task], labels.videos)
        for group in GROUPS
        for task in TASKS
    }


def _read_metrics(path: Path, segments: int) -> dict[str, Any]:
    """Read metrics.json of a run, and check that it has all metrics, over this number of segments.

    Raises:
        EpicError: The file is missing, damaged, incomplete or over other segments.
        DiskError: The disk fails.
    """
    remedy = f"make it again with `snakemake -R {path}`"
    try:
        metrics = read_json(path)
    except DiskError:
        # A failing disk is no defect of the file, and making the file again would not help.
        raise
    except (OSError, ValueError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise EpicError(f"{path}: cannot be read ({why}); {remedy}") from error
    for key in ("segments", "predicted", "reduce", "trained_on", *METRICS):
        if not isinstance(metrics, dict) or key not in metrics:
            raise EpicError(f"{path}: {key} is missing; {remedy}")
    if metrics["segments"] != segments:
        raise EpicError(
            f"{path}: is of {metrics['segments']} segments, the list of val now has {segments}; "
            "make it again with its settings, or move the folder away"
        )
    return metrics


def what_differs(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Find the keys of the config that are not the same in all runs that have their section.

    Returns:
        The values, in order of the runs, by name of the key.
    """
    differing = {}
    for name in dict.fromkeys(name for run in runs for name in run.settings):
        values = [run.setting(name) for run in runs]
        if len({*values} - {NO_VALUE}) > 1:
            differing[name] = values
    return differing


def write_table(comparison: Comparison, path: str | os.PathLike) -> None:
    """Write one row per run: metrics in percent, the change to the first run, and settings.

    Args:
        comparison: The result of `read_runs`.
        path: results/compare.tsv.
    """
    runs, key = comparison.runs, "overall_action"
    metrics = pd.DataFrame([run.metrics for run in runs])
    table = metrics[["segments", "predicted", *METRICS]].copy()
    table.insert(0, "run", [run.name for run in runs])
    # The first run has no change, and a change may have no interval. These cells become `-`.
    columns = ["action_change", "low_over_videos", "high_over_videos"]
    table[columns] = np.nan
    for place, run in enumerate(runs[1:], start=1):
        first, second = runs[0].right[key], run.right[key]
        change = difference(first, second, comparison.sizes[key], comparison.drawn)
        if change:
            low, high = change.interval or (np.nan, np.nan)
            table.loc[place, columns] = change.points, low, high
    table["time"] = [run.cost for run in runs]
    for name, values in what_differs(runs).items():
        # A line break or a tab in a value would break the table.
        table[name] = [" ".join(value.split()) for value in values]
    write_frame(table.mask(table == NO_VALUE), path, float_format="%.2f", na_rep=NO_VALUE)


# Runs have these colours in turn, which are visible on light and dark pages.
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
# The drawing of curves is this wide and high; the browser stretches it.
SIZE = 1000


def write_compare_page(comparison: Comparison, path: str | os.PathLike) -> None:
    """Write the page of all runs. `compare.js` computes the differences to a chosen baseline.

    All text that comes from files is escaped.

    Args:
        comparison: The result of `read_runs`.
        path: The HTML file.
    """
    runs, differing = comparison.runs, what_differs(comparison.runs)
    content: dict[str, Any] = {
        "drawn": base64.b64encode(comparison.drawn.astype(np.uint8).tobytes()).decode(),
        "sizes": {key: comparison.sizes[key].tolist() for key in KEYS},
        "settings": differing,
        "runs": [],
    }
    pages = {}
    for run in runs:
        right = {key: run.right[key].tolist() for key in KEYS}
        content["runs"].append(
            {"name": run.name, "scores": _scores(run, comparison), "right": right}
        )
        pages[run.name] = links(
            path,
            {
                "report": run.folder / "report.html",
                "segments": run.folder / "browse/index.html",
                "card": run.folder / "model_card.md",
            },
        )
    panels = (
        _panel("Training loss, mean of the epoch", "loss", runs),
        _panel("Top-1 actions on val, in %", "action_top1", runs),
    )
    page = template("compare.html.j2").render(
        runs=runs,
        data_name=runs[0].metrics.get("data", "val"),
        segments=comparison.segments,
        videos=len(comparison.sizes["overall_action"]),
        notes=comparison.notes,
        differing=differing,
        groups=GROUPS,
        resamples=RESAMPLES,
        content=content,
        panels=[panel for panel in panels if panel],
        colours=COLOURS,
        pages=pages,
    )
    write_text(path, page)


def _scores(run: Run, comparison: Comparison) -> dict[str, tuple[float, float, float]]:
    """Return the accuracies of a run with their intervals, by `{group}_{task}`.

    A group without segments is left out.
    """
    sizes = {key: int(counts.sum()) for key, counts in comparison.sizes.items()}
    sizes |= {f"readable_{task}": run.metrics["predicted"] for task in TASKS}
    scores = {}
    for key, size in sizes.items():
        percent = run.metrics.get(f"{key}_accuracy_at_1")
        if percent is not None and size:
            scores[key] = (percent, *wilson(percent, size))
    return scores


def _panel(title: str, column: str, runs: list[Run]) -> dict[str, Any] | None:
    """Draw a column of the epochs of all runs as lines; None if no run has it.

    Returns:
        `title`; `lines`, the points of a polyline by the place of the run; `x` and `y`, the places
        of ticks with their texts.
    """
    curves = {}
    for place, run in enumerate(runs):
        if run.history is not None and run.history[column].notna().any():
            curves[place] = run.history.set_index("epoch")[column].dropna()
    if not curves:
        return None
    # The x axis ends at the last epoch, and the y axis at its last tick. If all values are 0, it
    # ends at 1.
    every_value = pd.concat(curves.values())
    last_epoch = every_value.index.max()
    y_ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, every_value.max() or 1)
    top = y_ticks[-1]
    x_ticks = MaxNLocator(8, integer=True).tick_values(0, last_epoch)
    x_ticks = x_ticks[x_ticks <= last_epoch]
    return {
        "title": title,
        "lines": {place: _points(values, last_epoch, top) for place, values in curves.items()},
        "x": [(SIZE * tick / last_epoch, f"{tick:g}") for tick in x_ticks],
        "y": [(SIZE * tick / top, f"{tick:g}") for tick in y_ticks],
    }


def _points(values: pd.Series, last: float, highest: float) -> str:
    """Write the points of a polyline from values by epoch."""
    epochs, heights = values.index.to_numpy(), values.to_numpy()
    if len(values) == 1:
        # A line of one point is not visible, so it becomes a short one.
        epochs, heights = np.append(epochs, epochs - 0.3), np.append(heights, heights)
    places = zip(SIZE * epochs / last, SIZE - SIZE * heights / highest, strict=True)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
