"""Runs side by side: the figures of each, what differs in their config, and how sure that is."""

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

from epic100.base.disk import read_json
from epic100.base.errors import DiskError, EpicError
from epic100.base.text_table import write_frame
from epic100.pages.bootstrap import Counts, Difference, by_video, difference, draw_videos
from epic100.scoring.epoch_table import FILE, read_epochs
from epic100.scoring.metrics import TASKS
from epic100.scoring.outcomes import LabelTable
from epic100.scoring.val_scores import read_correct
from epic100.settings.config import DEFAULT, RESULTS

log = logging.getLogger(__name__)

# The groups of segments that all runs share. Which segments are readable depends on the run.
GROUPS = ("overall", "unseen", "tail")
# Groups and tasks have these keys here and on the page.
KEYS = tuple(f"{group}_{task}" for group in GROUPS for task in TASKS)
# These figures of metrics.json are columns of the table.
FIGURES = tuple(f"{key}_accuracy_at_1" for key in KEYS)
# These stand for what a run does not have, and for what its config leaves to the default.
NO_VALUE, DEFAULT_VALUE = "-", "default"


@dataclass(frozen=True)
class Run:
    """A finished run with its figures and its settings.

    Attributes:
        name: The run's name; `default` for the run in `results/`.
        folder: The folder with the run's files.
        figures: The content of metrics.json.
        settings: The config by dotted key, such as `train.epochs`; empty if it is not known.
        right: For each video, the segments that the run has right, by `KEYS`.
        history: The epochs of the training, if the model was trained here.
    """

    name: str
    folder: Path
    figures: dict[str, Any]
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
        hours, trained_on = self.history["seconds"].sum() / 3600, self.figures["trained_on"]
        for unit, name in (("gpus", "GPU h"), ("cores", "CPU h")):
            if unit in trained_on:
                return f"{hours * trained_on[unit]:.2f} {name}"
        return f"{hours:.2f} h"


@dataclass(frozen=True)
class Comparison:
    """Finished runs on the same segments.

    Attributes:
        runs: The runs; tables compare them with the first.
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

    def change(self, run: Run, baseline: Run, key: str) -> Difference | None:
        """Return the accuracy of a run minus that of another, over one of `KEYS`."""
        return difference(baseline.right[key], run.right[key], self.sizes[key], self.drawn)


def read_runs(
    folders: Sequence[str | os.PathLike],
    truth: LabelTable,
    classes: Mapping[str, int],
    notes: Sequence[str] = (),
) -> Comparison:
    """Read finished runs. A run that cannot be compared becomes a note.

    Args:
        folders: Folders with metrics.json and predictions/val.pt, and training.tsv of a run that
            was trained here.
        truth: The val split.
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
            runs.append(_read_run(folder, truth, classes))
        except DiskError:
            # The same command may read the file next time.
            raise
        except EpicError as error:
            said.append(f"not shown: {folder}: {str(error).removeprefix(f'{folder}/')}")
            continue
        run = runs[-1]
        if not run.settings:
            said.append(f"{run.name}: its config is not in its metrics.json, which is of 0.2.0")
        if run.history is None:
            said.append(f"{run.name}: its model was made elsewhere, so it has no time and no curve")
    for note in said:
        log.warning(note)
    if not runs:
        why = "; ".join(said) or "`snakemake results/metrics.json` makes one"
        raise EpicError(f"no finished run to show; {why}")
    members = {f"{group}_{task}": truth.members[group][task] for group in GROUPS for task in TASKS}
    sizes = {key: by_video(mask, truth.videos) for key, mask in members.items()}
    return Comparison(runs, sizes, draw_videos(truth.video_count), len(truth.ids), said)


def _read_run(folder: Path, truth: LabelTable, classes: Mapping[str, int]) -> Run:
    """Read the files of a run.

    Raises:
        EpicError: A file is missing or wrong, or of other segments or classes.
    """
    figures = _read_figures(folder / "metrics.json", len(truth.ids))
    sizes = (classes["verbs"], classes["nouns"])
    hits = read_correct(folder / "predictions/val.pt", truth, reduce=figures["reduce"], sizes=sizes)
    right = {
        f"{group}_{task}": by_video(hits[f"{task}_at_1"] & truth.members[group][task], truth.videos)
        for group in GROUPS
        for task in TASKS
    }
    flat = pd.json_normalize(figures.get("settings", {})).to_dict("records")
    settings = {
        str(name): value if isinstance(value, str) else json.dumps(value)
        for name, value in (flat[0] if flat else {}).items()
        if value is not None
    }
    history = read_epochs(folder / FILE) if (folder / FILE).is_file() else None
    name = DEFAULT if folder.as_posix() == RESULTS else folder.name
    return Run(name, folder, figures, settings, right, history)


def _read_figures(path: Path, segments: int) -> dict[str, Any]:
    """Read metrics.json of a run, and check that it has all figures, over this number of segments.

    Raises:
        EpicError: The file is missing, damaged, incomplete or over other segments.
        DiskError: The disk fails.
    """
    remedy = f"make it again with `snakemake -R {path}`"
    try:
        figures = read_json(path)
    except DiskError:
        # A failing disk is no defect of the file, and making the file again would not help.
        raise
    except (OSError, ValueError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise EpicError(f"{path}: cannot be read ({why}); {remedy}") from error
    for key in ("segments", "predicted", "reduce", "trained_on", *FIGURES):
        if not isinstance(figures, dict) or key not in figures:
            raise EpicError(f"{path}: {key} is missing; {remedy}")
    if figures["segments"] != segments:
        raise EpicError(
            f"{path}: is of {figures['segments']} segments, the list of val now has {segments}; "
            "make it again with its settings, or move the folder away"
        )
    return figures


def what_differs(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Find the keys of the config that are not the same in all runs that have their section.

    Returns:
        The values, in order of the runs, by name of the key.
    """
    values = {
        name: [run.setting(name) for run in runs]
        for name in dict.fromkeys(name for run in runs for name in run.settings)
    }
    return {name: texts for name, texts in values.items() if len({*texts} - {NO_VALUE}) > 1}


def write_table(comparison: Comparison, path: str | os.PathLike) -> None:
    """Write one row per run: figures in percent, the change to the first run, and settings.

    Args:
        comparison: The result of `read_runs`.
        path: results/compare.tsv.
    """
    runs, rows = comparison.runs, []
    for run in runs:
        row: dict[str, Any] = {"run": run.name}
        row |= {name: run.figures[name] for name in ("segments", "predicted", *FIGURES)}
        # The first run has no change, and a change may have no interval. These cells become `-`.
        change = comparison.change(run, runs[0], "overall_action") if run is not runs[0] else None
        row["action_change"] = change.points if change else None
        interval = change.interval if change else None
        row["low_over_videos"], row["high_over_videos"] = interval or (None, None)
        rows.append(row | {"time": run.cost})
    table = pd.DataFrame(rows)
    for name, values in what_differs(runs).items():
        # A line break or a tab in a value would break the table.
        table[name] = [" ".join(value.split()) for value in values]
    write_frame(table.mask(table == NO_VALUE), path, float_format="%.2f", na_rep=NO_VALUE)
