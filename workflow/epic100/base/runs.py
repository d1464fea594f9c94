"""Runs side by side: where the trained parts of a run are, and which runs a sweep has.

Segment lists, scans, clean lists and checkpoints are shared by all runs of a folder. Nothing here
needs torch, so that a DAG can import it quickly.
"""

import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epic100.base.errors import EpicError

RESULTS = "results"
RUNS = f"{RESULTS}/runs"
DEFAULT = "default"  # what the run in `results/` is called beside others
COMPARED = ("metrics.json", "predictions/val.pt")  # what a finished run has
# YAML 1.1 reads 1e-2 as text: a number with an exponent needs a point.
_NUMBER_AS_TEXT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def home_of(run: str | None) -> str:
    """Return the folder of a run's trained parts; None is the default run."""
    return f"{RUNS}/{run}" if run else RESULTS


def home_pattern(config: Mapping[str, Any]) -> str:
    """Return the folder that the rules write trained parts to; with a sweep it has `{run}` in it.

    Args:
        config: The complete config.

    Raises:
        EpicError: Both `run:` and `sweep:` are set, a sweep has a model that is finished, or the
            run has the name of the default run.
    """
    if config["run"] == DEFAULT:
        raise EpicError("config: `run: default` is the run without a name; leave `run:` out")
    if not config.get("sweep"):
        return home_of(config["run"])
    if config["run"]:
        raise EpicError("config: `run:` and `sweep:` are both set; expected one of the two")
    if config["predict"]["model"] or config["predict"]["models"]:
        raise EpicError(
            "config: a `sweep:` trains its models, but `predict:` names finished ones; remove one"
        )
    return f"{RUNS}/{{run}}"


def sweep_runs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the `train:` section of each run of a sweep, by the run's name.

    There is a run for every combination of the values. Its name has the last part of each key and
    its value, in alphabetical order: `lr0.01_seed0`.

    Args:
        config: The complete config.

    Returns:
        Sections by name; empty without `sweep:`.

    Raises:
        EpicError: Two runs would have the same name, or a number is written as text.
    """
    grid = dict((config.get("sweep") or {}).get("train", {}))
    options = grid.pop("options", {})
    # (name, section that the key is in, key, values)
    axes = [(key, "train", key, values) for key, values in grid.items()]
    axes += [(key.rpartition(".")[2], "options", key, options[key]) for key in options]
    axes.sort(key=lambda axis: (axis[0], axis[2]))
    if not axes:
        return {}
    runs: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*(axis[3] for axis in axes)):
        section = dict(config["train"])
        section["options"] = dict(section["options"])
        parts = []
        for (short, where, key, _), value in zip(axes, values, strict=True):
            (section if where == "train" else section["options"])[key] = value
            parts.append(short + _value_text(key, value))
        name = "_".join(parts)
        if name in runs:
            raise EpicError(
                f"config: `sweep:` has two runs with the name {name}; remove a value that is "
                "listed twice, or train one of them with `run:`"
            )
        runs[name] = section
    return runs


def runs_to_compare(
    config: Mapping[str, Any], folder: str | os.PathLike = ""
) -> tuple[list[str | None], list[str | None]]:
    """Return the runs that `results/compare.html` shows; None is the default run.

    Args:
        config: The complete config.
        folder: The working folder.

    Returns:
        The runs of this config, which are made if they are missing or out of date; and the other
        finished runs, which are shown as they are. The default run is left out if it was never made
        and others were.
    """
    there = sorted(path.name for path in (Path(folder) / RUNS).glob("*"))
    finished = [
        run
        for run in (None, *there)
        if all((Path(folder) / home_of(run) / name).is_file() for name in COMPARED)
    ]
    own: list[str | None] = [*sweep_runs(config)] or [config["run"]]
    if own == [None] and finished and None not in finished:
        own = []
    return own, [run for run in finished if run not in own]


def _value_text(key: str, value: Any) -> str:
    """A value as part of a folder's name."""
    if isinstance(value, str) and _NUMBER_AS_TEXT.fullmatch(value):
        raise EpicError(
            f"config: `sweep:` {key} has the value {value!r}, which YAML reads as text; expected "
            "a number with a point, such as 1.0e-2 or 0.01"
        )
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)
