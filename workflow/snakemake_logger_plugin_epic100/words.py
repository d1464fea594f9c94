"""What the screen says about a run: what would run, its status, and how it ended."""

from collections import Counter
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_epic100.board import Board, Job, since, wildcards_of
from snakemake_logger_plugin_epic100.logs import lines_of, shown_path

# The states of active jobs in the order in which they are shown.
STATES = ("running", "pending", "submitted")
# At most this number of jobs is named; the others are only counted.
MOST_JOBS = 4
# This number of characters of a job's last line is shown.
WIDTH = 80
# The files whose paths are shown at the end, by the word before the path.
RESULT_FILES = {
    "submission": ("submission.pt", "submission.zip"),
    "model": ("model.pth",),
    "report": ("report.html",),
}
# The last of these words that was shown decides the next step.
NEXT_STEPS = {
    "submission": " Next: `snakemake all` makes figures and report.",
    "report": " Next: look at the report.",
}


def block(board: Board) -> list[str]:
    """The status of a run: a summary, and a line for each rule with active jobs.

    The summary is as `3 of 9 jobs done, 2 running, 1 failed (scan P02), 0:05:12`.
    """
    active = board.jobs_that_are("active")
    failed = [job.name for job in board.jobs_that_are("failed")]
    counts = Counter(_state(board, job) for job in active)
    texts = [f"{len(board.jobs_that_are('done'))} of {board.total} jobs done"]
    texts += [f"{counts[state]} {state}" for state in STATES if counts[state]]
    if failed:
        texts.append(f"{len(failed)} failed ({', '.join(failed[:MOST_JOBS])})")
    # A dictionary keeps the order of the rules, and each rule once.
    rules = dict.fromkeys(job.record.rule_name for job in active)
    summary = ", ".join([*texts, since(board.started)])
    return [summary, *(f"  {_rule_line(board, rule)}" for rule in rules)]


def ending(board: Board) -> list[str]:
    """The lines at the end of a run: metrics, paths of results, failures, and the next step."""
    done = board.jobs_that_are("done")
    outputs: list[str] = []
    for job in done:
        outputs += job.record.output
    # A sweep makes several summaries, for which there is no place.
    lines: list[str] = []
    written = filter(Path.exists, map(Path, outputs))
    summaries = [path for path in written if path.name == "summary.txt"]
    if len(summaries) == 1:
        lines += summaries[0].read_text(encoding="utf-8").rstrip().splitlines()
    # The paths of results stand below each other, in column 12.
    step = ""
    for word, names in RESULT_FILES.items():
        paths = [shown_path(path, board.folder) for path in outputs if Path(path).name in names]
        if paths:
            lines.append(f"{word + ':':12}{', '.join(sorted(paths))}")
            step = NEXT_STEPS.get(word, step)
    if len(done) == board.total:
        return [*lines, f"{board.total} jobs done in {since(board.started)}.{step}"]
    lines.append(f"{len(done)} of {board.total} jobs done in {since(board.started)}.")
    # The failures of jobs, if there are any, already say what the errors of Snakemake say.
    failures = [job.failure for job in board.jobs_that_are("failed")]
    for failure in failures:
        lines += failure.lines
    if not failures:
        lines += board.errors
    # A stop needs no fix, but an error of a job does, and so does one of Snakemake.
    stops = [failure.stopped for failure in failures]
    stopped = board.stopped or next(filter(None, stops), "")
    needs_fix = not stopped or "" in stops
    step = "fix this and give the same command" if needs_fix else "give the same command"
    stop = f"Stopped by {stopped}. " if stopped else ""
    return [*lines, f"{stop}Next: {step}; jobs that are done stay done."]


def _rule_line(board: Board, rule: str) -> str:
    """The line of a rule: `scan 3/9: P01 wice/batch running; P02 submitted; 4 more`."""
    jobs = board.jobs_that_are("active", rule)
    jobs.sort(key=lambda job: STATES.index(_state(board, job)))
    texts = [_job_text(board, job) for job in jobs[:MOST_JOBS]]
    if len(jobs) > MOST_JOBS:
        texts.append(f"{len(jobs) - MOST_JOBS} more")
    total = board.stats[rule]
    count = f" {len(board.jobs_that_are('done', rule))}/{total}" if total > 1 else ""
    return f"{rule}{count}: {'; '.join(texts)}"


def _job_text(board: Board, job: Job) -> str:
    """The text about a job: wildcards, place, and state or the last line of its log."""
    entry = (board.queue or {}).get(job.id, {"where": "", "reason": ""})
    text = _state(board, job)
    if text == "running":
        last_lines = lines_of(job.record.rule_log, job.record.log_state)[-1:]
        text = "".join(last_lines).removeprefix(f"{job.name}: ")[:WIDTH] or text
    elif entry["reason"]:
        text += f" ({entry['reason']})"
    return " ".join(filter(None, [wildcards_of(job.record), entry["where"], text]))


def _state(board: Board, job: Job) -> str:
    """Where an active job is by the newest report of the executor, one of `STATES`."""
    if job.record.local or board.queue is None:
        return "running"
    if job.id not in board.queue:
        return "submitted"
    return "pending" if board.queue[job.id]["state"] == "PENDING" else "running"


# Snakemake's reason of a job contains the words on the left; those on the right are shown. If a job
# has several reasons, the first one in this order is shown.
REASONS = {
    "Forced execution": "asked for once more",
    "Missing output files": "no result yet",
    "Incomplete output files": "was not finished",
    "Updated input files": "newer input",
    "Set of input files has changed": "other input files",
    "Code has changed": "changed code",
    "Params have changed": "changed settings",
    "Software environment definition has changed": "changed environment",
    "Input files updated by another job": "follows from the others",
}
# A line has at most this many columns.
PLAN_WIDTH = 96


def plan(jobs: list[Job]) -> list[str]:
    """The lines that a dry run shows: for each rule its number of jobs, reasons and wildcards.

    An example is `  scan      2  no result yet: P01 P02`.

    Args:
        jobs: The jobs that would run.
    """
    by_rule: dict[str, list[Any]] = {}
    for job in jobs:
        by_rule.setdefault(job.record.rule_name, []).append(job.record)
    lines = [f"{len(jobs)} jobs would run:"]
    width = max(map(len, by_rule), default=0)
    for rule, records in by_rule.items():
        # A dictionary has each reason once, in the order of the jobs.
        reasons = ", ".join(dict.fromkeys(filter(None, map(_reason, records))))
        wildcards = " ".join(filter(None, sorted(map(wildcards_of, records))))
        texts = ": ".join(filter(None, [reasons, wildcards]))
        line = f"  {rule:{width}} {len(records):4}  {texts}"
        lines.append(line if len(line) <= PLAN_WIDTH else f"{line[: PLAN_WIDTH - 4].rstrip()} ...")
    return [*lines, "Nothing was run. Each job with its files: --verbose"]


def _reason(record: Any) -> str:
    """The first of `REASONS` for which a job runs, or ""."""
    for words, shown in REASONS.items():
        if words in str(record.reason):
            return shown
    return ""
