"""Runs side by side: the figures of each, what differs in their settings, and how sure that is."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from mmengine.config import ConfigDict

from epic100.base.disk import read_json
from epic100.base.errors import DiskError, EpicError
from epic100.base.text_table import write_frame
from epic100.compare.bootstrap import Difference, Hits, difference
from epic100.model.model_file import load_model
from epic100.scoring.metrics import TASKS
from epic100.scoring.outcomes import Truth
from epic100.settings.config import DEFAULT, RESULTS
from epic100.submission.score import read_hits
from epic100.training.run import settings_in

log = logging.getLogger(__name__)

# The groups of segments, with what each is on the page of all runs.
GROUPS = {
    "overall": "all of val",
    "unseen": "participants without a video in train",
    "tail": "the rarest classes, with 20 % of train",
}
# Only a run whose model was trained here has this setting.
HEADS = "heads"
# A run without a setting has this in place of a value.
NO_VALUE = "-"
# These figures of metrics.json are columns of the table, and on the page.
FIGURES = tuple(f"{group}_{task}_accuracy_at_1" for group in GROUPS for task in TASKS)


@dataclass(frozen=True)
class Run:
    """A finished run with its figures and its settings.

    Attributes:
        name: The run's name; `default` for the run in `results/`.
        folder: The folder with the run's files.
        figures: The content of metrics.json.
        settings: How the model was trained and how its scores are folded, by dotted key, such as
            `model.backbone.type`.
        change: Top-1 action of this run minus that of the first run; None for the first.
    """

    name: str
    folder: Path
    figures: dict[str, Any]
    settings: dict[str, str]
    change: Difference | None = None


def read_runs(
    folders: Sequence[str | os.PathLike], truth: Truth, classes: Mapping[str, int]
) -> list[Run]:
    """Read finished runs and compare each with the first.

    Args:
        folders: Folders with metrics.json and predictions/val.pt, and model.pth of a run that was
            trained here.
        truth: The val split.
        classes: Numbers of `verbs` and `nouns`.

    Raises:
        EpicError: A file is missing or wrong, or there is no folder.
    """
    if not folders:
        raise EpicError("no finished run to show; `snakemake results/metrics.json` makes one")
    runs: list[Run] = []
    # For each run, whether it has the action of each segment right.
    action_hits: list[Hits] = []
    all_segments = truth.members["overall"]["action"]
    for folder in map(Path, folders):
        figures = _read_figures(folder / "metrics.json", len(truth.ids))
        name = DEFAULT if folder.as_posix() == RESULTS else folder.name
        hits = read_hits(
            folder / "predictions/val.pt",
            truth,
            reduce=figures["reduce"],
            sizes=(classes["verbs"], classes["nouns"]),
        )
        action_hits.append(hits["action_at_1"])
        # The first run has no change, since the others are compared with it.
        change = None
        if runs:
            change = difference(action_hits[0], action_hits[-1], all_segments, truth.videos)
        runs.append(Run(name, folder, figures, _settings(folder, figures), change))
        log.info("%s: top-1 action %.2f %%", name, figures["overall_action_accuracy_at_1"])
    return runs


def what_differs(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Find the settings that are not the same in all runs, and their values.

    Returns:
        The values, in order of the runs, by name of the setting; "-" for a run without it. Settings
        with the same values are one entry, such as `lr, epochs`.
    """
    names_by_values: dict[tuple[str, ...], list[str]] = {}
    for name, values in _differing_values(runs).items():
        names_by_values.setdefault(values, []).append(name)
    return {", ".join(names): list(values) for values, names in names_by_values.items()}


def _differing_values(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Find the settings, or whole parts of the config, that are not the same in all runs.

    A part that a run does not have stands for all settings in it, with the type of the part: a
    model without a neck differs from another one in `model.neck`. A run whose model was made
    elsewhere has no settings of a training, and makes no difference there.

    Returns:
        The values, in order of the runs, by name of the setting or part; "-" for a run without it.
    """
    values_by_name: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.settings):
        values = tuple(run.settings.get(name, NO_VALUE) for run in runs)
        # A run without `HEADS` has a model made elsewhere, and what it lacks is no difference.
        distinct = {
            value
            for value, run in zip(values, runs, strict=True)
            if HEADS in run.settings or name in run.settings
        }
        if len(distinct) < 2:
            continue
        absent_part = _absent_part(name, runs)
        # The part stands for the setting only if all runs that have the setting agree on its value.
        if absent_part and absent_part != name and len(distinct - {NO_VALUE}) == 1:
            values_by_name[absent_part] = _types_of_part(absent_part, runs)
        else:
            values_by_name[name] = values
    return values_by_name


def _has_part(run: Run, part: str) -> bool:
    """Tell whether a run has a part of the config, or a setting of this name."""
    return any(name == part or name.startswith(f"{part}.") for name in run.settings)


def _absent_part(name: str, runs: Sequence[Run]) -> str | None:
    """Find the outermost part of the config around a setting that a run trained here lacks.

    The parts of `model.backbone.depth` are `model`, `model.backbone` and the setting itself.
    """
    trained = [run for run in runs if HEADS in run.settings]
    keys = name.split(".")
    for end in range(1, len(keys) + 1):
        part = ".".join(keys[:end])
        if not all(_has_part(run, part) for run in trained):
            return part
    return None


def _types_of_part(part: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the type of a part of the config in each run.

    It is "set" for a part without a type, and "-" for a run without the part.
    """
    return tuple(
        run.settings.get(f"{part}.type", "set") if _has_part(run, part) else NO_VALUE
        for run in runs
    )


def write_table(runs: Sequence[Run], path: str | os.PathLike) -> None:
    """Write one row per run: figures in percent, the change with its intervals, and settings.

    Args:
        runs: The result of `read_runs`.
        path: results/compare.tsv.
    """
    rows = []
    for run in runs:
        row: dict[str, Any] = {"run": run.name}
        row |= {key: run.figures.get(key) for key in ("segments", "predicted", *FIGURES)}
        # The first run has no change, and a change may have no interval. These cells become `-`.
        change = run.change
        row["action_change"] = change.points if change else None
        for key in ("over_segments", "over_videos"):
            interval = getattr(change, key) if change else None
            row[f"low_{key}"], row[f"high_{key}"] = interval or (None, None)
        rows.append(row)
    table = pd.DataFrame(rows)
    for name, values in what_differs(runs).items():
        # A line break or a tab in a value would break the table.
        table[name] = [" ".join(value.split()) for value in values]
    write_frame(table, path, float_format="%.2f", na_rep=NO_VALUE)


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
        # A failing disk is no fault of the file, and making the file again would not help.
        raise
    except (OSError, ValueError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise EpicError(f"{path}: cannot be read ({why}); {remedy}") from error
    for key in ("segments", "predicted", "reduce", *FIGURES):
        if not isinstance(figures, dict) or key not in figures:
            raise EpicError(f"{path}: {key} is missing; {remedy}")
    if figures["segments"] != segments:
        raise EpicError(
            f"{path}: is of {figures['segments']} segments, the list of val now has {segments}; "
            "expected runs of the same segments; make it again with its settings, or move the "
            "folder away"
        )
    return figures


def _settings(folder: Path, figures: Mapping[str, Any]) -> dict[str, str]:
    """Collect the settings of a run by dotted key: of its training, its data and its export.

    Without a model file, only the settings of the export are known.
    """
    values = {}
    path = folder / "model.pth"
    if path.is_file():
        trained = load_model(path)
        trained_on = {key: str(value) for key, value in trained.trained_on.items()}
        settings = settings_in(ConfigDict(trained.config)).items()
        # A value that `trained_on` has, too, is shown once. A config has the seed at two places, so
        # keys are compared by their last part.
        values = {key: text for key, text in settings if trained_on.get(key.split(".")[-1]) != text}
        values[HEADS] = trained.heads
        values |= {f"trained_on.{key}": value for key, value in trained_on.items()}
    return values | {"export.reduce": str(figures["reduce"])}
