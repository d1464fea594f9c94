"""The last lines on the screen when a run has ended."""

import time
from collections import defaultdict
from pathlib import Path

from snakemake_logger_plugin_epic100.board import Board, duration

# This many rules are listed.
LONGEST = 4
MADE = {
    "submission": ("submission.pt", "submission.zip"),
    "model": ("model.pth",),
    "report": ("report.html",),
}


def ending(board: Board) -> list[str]:
    """The last lines: figures, paths and the next step, or again what has failed."""
    # The keys are names of files. Several runs of a sweep make files of the same name.
    made: dict[str, list[str]] = defaultdict(list)
    for path in (path for job in board.jobs_that_are("done") for path in job.outputs):
        made[Path(path).name].append(path)
    total = duration(time.time() - board.started)
    lines = [f"longest: {', '.join(board.spent()[:LONGEST])}"] if board.done else []
    summaries = [Path(path) for path in made["summary.txt"] if Path(path).exists()]
    if len(summaries) == 1:
        lines += summaries[0].read_text(encoding="utf-8").rstrip().splitlines()
    for name, files in MADE.items():
        if there := [board.seen(path) for file in files for path in made[file]]:
            lines.append(f"{name + ':':12}{', '.join(there)}")
    if board.failures or board.done < board.total:
        lines.append(f"{board.done} of {board.total} jobs done in {total}.")
        lines += [line for failure in board.failures.values() for line in failure.lines()]
        by = [board.stopped, *(failure.stopped for failure in board.failures.values())]
        stopped = next(filter(None, by), "")
        wrong = board.refused and not stopped or not all(by[1:])
        words = f"Stopped by {stopped}. " if stopped else ""
        first = "fix this and " if wrong else ""
        return [*lines, f"{words}Next: {first}give the same command; jobs that are done stay done."]
    step = ""
    if made["report.html"]:
        step = " Next: look at the report."
    elif made["submission.zip"] or made["submission.pt"]:
        step = " Next: `snakemake all` makes figures and report."
    return [*lines, f"{board.done} jobs done in {total}.{step}"]
