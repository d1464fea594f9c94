"""The last lines on the screen when a run has ended."""

import time
from pathlib import Path

from snakemake_logger_plugin_epic100.board import Board, duration

SUMMARY = "results/summary.txt"
MADE = {
    "submission": ("results/submission.pt", "results/submission.zip"),
    "model": ("results/model.pth",),
    "report": ("results/report.html",),
}


def ending(board: Board) -> list[str]:
    """The last lines: figures, paths and the next step, or again what has failed."""
    made = {path for job in board.in_state("done") for path in job.outputs}
    spent = duration(time.time() - board.started)
    failures = [failure for failure in board.failures if not failure.mended]
    lines = []
    if SUMMARY in made and Path(SUMMARY).exists():
        lines += ["", *Path(SUMMARY).read_text(encoding="utf-8").rstrip().splitlines(), ""]
    for name, paths in MADE.items():
        if there := [path for path in paths if path in made]:
            lines.append(f"{name + ':':12}{', '.join(there)}")
    if not failures and board.done >= board.total:
        return [*lines, f"{board.done} jobs done in {spent}.{_next_step(made)}"]
    lines.append(f"{board.done} of {board.total} jobs done in {spent}.")
    for failure in {failure.job: failure for failure in failures}.values():
        lines += failure.lines()
    first = "mend what failed and " if failures else ""
    return [*lines, f"Next: {first}give the same command; what is finished is kept."]


def _next_step(made: set[str]) -> str:
    if "results/report.html" in made:
        return " Next: look at results/report.html, then send the submission to the challenge."
    if "results/submission.zip" in made or "results/submission.pt" in made:
        return " Next: `snakemake all` with the same options makes figures and report."
    return ""
