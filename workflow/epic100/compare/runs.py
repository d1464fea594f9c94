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

GROUPS = ("overall", "unseen", "tail")
HEADS = "heads"
FIGURES = tuple(f"{group}_{task}_accuracy_at_1" for group in GROUPS for task in TASKS)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: Its name; `default` for the one in `results/`.
        folder: Where its files are.
        figures: The content of its metrics.json.
        settings: What its model was trained with and how its scores are folded, by dotted key.
        change: Top-1 action of this run minus that of the first; None for the first.
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
    right: list[Hits] = []  # It marks for each run the segments that it has right.
    everything = truth.members["overall"]["action"]
    for folder in map(Path, folders):
        figures = _read_figures(folder / "metrics.json", len(truth.ids))
        name = DEFAULT if folder.as_posix() == RESULTS else folder.name
        scores = folder / "predictions/val.pt"
        sizes = (classes["verbs"], classes["nouns"])
        hits = read_hits(scores, truth, reduce=figures["reduce"], sizes=sizes)
        right.append(hits["action_at_1"])
        change = difference(right[0], right[-1], everything, truth.videos) if runs else None
        runs.append(Run(name, folder, figures, _settings(folder, figures), change))
        log.info("%s: top-1 action %.2f %%", name, figures["overall_action_accuracy_at_1"])
    return runs


def what_differs(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the values, in order of the runs, of each setting that is not the same in all.

    Settings that differ in the same way are one entry with the names of all of them. A run without
    such a setting has "-". What a run lacks as a whole, such as a probe a backbone, is one entry,
    with its type. A run whose model was made elsewhere has no settings of a training, and makes no
    difference there.
    """
    run_parts = [{part for name in run.settings for part in _parts(name)} for run in runs]
    trained = [
        parts_of_run
        for parts_of_run, run in zip(run_parts, runs, strict=True)
        if HEADS in run.settings
    ]
    values_by_name: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.settings):
        values = tuple(run.settings.get(name, "-") for run in runs)
        distinct = {
            value
            for value, run in zip(values, runs, strict=True)
            if HEADS in run.settings or name in run.settings
        }
        if len(distinct) < 2:
            continue
        lacking = [
            part
            for part in _parts(name)
            if not all(part in parts_of_run for parts_of_run in trained)
        ]
        if lacking[:1] not in ([], [name]) and len(distinct - {"-"}) == 1:
            name = lacking[0]
            values = tuple(
                run.settings.get(f"{name}.type", "set") if name in parts_of_run else "-"
                for run, parts_of_run in zip(runs, run_parts, strict=True)
            )
        values_by_name[name] = values
    names: dict[tuple[str, ...], list[str]] = {}
    for name, values in values_by_name.items():
        names.setdefault(values, []).append(name)
    return {", ".join(same): list(values) for values, same in names.items()}


def _parts(name: str) -> list[str]:
    """The parts of the config around a setting, from the outermost on, and the setting itself."""
    keys = name.split(".")
    return [".".join(keys[:end]) for end in range(1, len(keys) + 1)]


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
        change = run.change
        row["action_change"] = change and change.points
        for key in ("over_segments", "over_videos"):
            low, high = (change and getattr(change, key)) or (None, None)
            row |= {f"low_{key}": low, f"high_{key}": high}
        rows.append(row)
    table = pd.DataFrame(rows)
    for name, values in what_differs(runs).items():
        table[name] = [" ".join(value.split()) for value in values]
    write_frame(table, path, float_format="%.2f", na_rep="-")


def _read_figures(path: Path, segments: int) -> dict[str, Any]:
    remedy = f"make it again with `snakemake -R {path}`"
    try:
        figures = read_json(path)
    except DiskError:
        raise
    except (OSError, ValueError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise EpicError(f"{path}: cannot be read ({why}); {remedy}") from error
    needed = ("segments", "predicted", "reduce", *FIGURES)
    lacking = [key for key in needed if not isinstance(figures, dict) or key not in figures]
    if lacking:
        raise EpicError(f"{path}: {lacking[0]} is missing; {remedy}")
    if figures["segments"] != segments:
        raise EpicError(
            f"{path}: is of {figures['segments']} segments, the list of val now has {segments}; "
            "expected runs of the same segments; make it again with its settings, or move the "
            "folder away"
        )
    return figures


def _settings(folder: Path, figures: Mapping[str, Any]) -> dict[str, str]:
    values = {}
    path = folder / "model.pth"
    if path.is_file():
        trained = load_model(path)
        trained_on = {key: str(value) for key, value in trained.trained_on.items()}
        settings = settings_in(ConfigDict(trained.config)).items()
        # A value that `trained_on` has, too, is shown once. A config has the seed at two places, so
        # keys are compared by their last part.
        values = {
            key: text for key, text in settings if trained_on.get(key.rpartition(".")[2]) != text
        }
        values[HEADS] = trained.heads
        values |= {f"trained_on.{key}": value for key, value in trained_on.items()}
    return values | {"export.reduce": str(figures["reduce"])}
