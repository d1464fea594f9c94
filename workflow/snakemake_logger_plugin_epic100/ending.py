"""The last lines on the screen when a run has ended."""

import time
from collections import defaultdict
from pathlib import Path

from snakemake_logger_plugin_epic100.board import Board, duration

# So many of the rules that took longest are listed.
LONGEST = 4
# The files whose paths are shown at the end, by the word before the path.
RESULT_FILES = {
    "submission": ("submission.pt", "submission.zip"),
    "model": ("model.pth",),
    "report": ("report.html",),
}


def ending(board: Board) -> list[str]:
    """The lines that are shown at the end of a run: durations, figures, paths of results.

    The last lines are the next step of the user, or all failures once more.
    """
    # Several runs of a sweep make files of the same name.
    paths_by_name: dict[str, list[str]] = defaultdict(list)
    for job in board.jobs_that_are("done"):
        for path in job.outputs:
            paths_by_name[Path(path).name].append(path)
    elapsed = duration(time.time() - board.started)
    lines = [f"longest: {', '.join(board.durations()[:LONGEST])}"] if board.done else []
    summaries = [Path(path) for path in paths_by_name["summary.txt"] if Path(path).exists()]
    if len(summaries) == 1:
        lines += summaries[0].read_text(encoding="utf-8").rstrip().splitlines()
    for name, files in RESULT_FILES.items():
        if paths := [path for file in files for path in paths_by_name[file]]:
            # The paths stand below each other, in column 12.
            lines.append(f"{name + ':':12}{', '.join(map(board.path_from_here, paths))}")
    if board.failures or board.done < board.total:
        lines.append(f"{board.done} of {board.total} jobs done in {elapsed}.")
        lines += [line for failure in board.failures.values() for line in failure.lines()]
        # The signal or key that stopped a job, or "" if it failed by an error of its own.
        stops_of_jobs = [failure.stopped for failure in board.failures.values()]
        stopped = next(filter(None, [board.stopped, *stops_of_jobs]), "")
        # An error of a job needs a fix, and so does one that the same command would meet again.
        needs_fix = (board.refused and not stopped) or not all(stops_of_jobs)
        stop_text = f"Stopped by {stopped}. " if stopped else ""
        fix_text = "fix this and " if needs_fix else ""
        return [
            *lines,
            f"{stop_text}Next: {fix_text}give the same command; jobs that are done stay done.",
        ]
    step = ""
    if paths_by_name["report.html"]:
        step = " Next: look at the report."
    elif paths_by_name["submission.zip"] or paths_by_name["submission.pt"]:
        step = " Next: `snakemake all` makes figures and report."
    return [*lines, f"{board.done} jobs done in {elapsed}.{step}"]
