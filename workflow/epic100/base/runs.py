"""Runs side by side: where the trained parts of a run are, and which runs are finished.

Segment lists, scans, clean lists and checkpoints are shared by all runs of a folder. Nothing here
needs torch, so that a DAG can import it quickly.
"""

import os
from collections.abc import Sequence
from pathlib import Path

RESULTS = "results"
RUNS = f"{RESULTS}/runs"
DEFAULT = "default"  # what the run in `results/` is called beside others
COMPARED = ("metrics.json", "predictions/val.pt")  # what a finished run has


def home_of(run: str | None) -> str:
    """Return the folder of a run's trained parts; None is the default run."""
    return f"{RUNS}/{run}" if run else RESULTS


def runs_to_compare(
    own: Sequence[str | None], folder: str | os.PathLike = ""
) -> tuple[list[str | None], list[str | None]]:
    """Return the runs that `results/compare.html` shows; None is the default run.

    Args:
        own: The runs of this config.
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
    own = list(own)
    if own == [None] and finished and None not in finished:
        own = []
    return own, [run for run in finished if run not in own]
