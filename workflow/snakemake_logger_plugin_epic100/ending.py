"""The last lines on the screen when a run has ended."""

import re
import time
from pathlib import Path

from snakemake_logger_plugin_epic100.board import Board, duration

# Names below `results/`, or below the folder of a run.
OF_RUN = re.compile(r"results/(?:runs/[^/]+/)?([^/]+)")
SUMMARY = "summary.txt"
MADE = {
    "submission": ("submission.pt", "submission.zip"),
    "model": ("model.pth",),
    "report": ("report.html",),
}


def ending(board: Board) -> list[str]:
    """The last lines: figures, paths and the next step, or again what has failed."""
    made: dict[str, list[str]] = {}
    for path in (path for job in board.jobs_that_are("done") for path in job.outputs):
        if found := OF_RUN.fullmatch(path):
            made.setdefault(found[1], []).append(path)
    spent = duration(time.time() - board.started)
    failures = [failure for failure in board.failures if not failure.mended]
    lines = []
    summaries = [Path(path) for path in made.get(SUMMARY, []) if Path(path).exists()]
    if len(summaries) == 1:
        lines += ["", *summaries[0].read_text(encoding="utf-8").rstrip().splitlines(), ""]
    for name, files in MADE.items():
        if there := [path for file in files for path in made.get(file, [])]:
            lines.append(f"{name + ':':12}{', '.join(there)}")
    if not failures and board.done >= board.total:
        return [*lines, f"{board.done} jobs done in {spent}.{_next_step(made)}"]
    lines.append(f"{board.done} of {board.total} jobs done in {spent}.")
    for failure in {failure.job: failure for failure in failures}.values():
        lines += failure.lines()
    first = "fix what failed and " if failures else ""
    return [*lines, f"Next: {first}give the same command; what is finished is kept."]


def _next_step(made: dict[str, list[str]]) -> str:
    if report := made.get("report.html"):
        return f" Next: look at {report[0]}, then send the submission to the challenge."
    if "submission.zip" in made or "submission.pt" in made:
        return " Next: `snakemake all` with the same options makes figures and report."
    return ""
