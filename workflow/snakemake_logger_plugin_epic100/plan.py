"""The plan that a dry run shows: a line for each rule, in place of two for each job."""

from typing import Any

from snakemake_logger_plugin_epic100.board import Job, wildcards_of

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
WIDTH = 96


def plan(jobs: list[Job]) -> list[str]:
    """The lines that a dry run shows: for each rule its number of jobs, reasons and wildcards.

    An example is `  scan      2  no result yet: P01 P02`.

    Args:
        jobs: The jobs that would run.
    """
    rules = dict.fromkeys(job.record.rule_name for job in jobs)
    lines = [f"{len(jobs)} jobs would run:"]
    for rule in rules:
        records = [job.record for job in jobs if job.record.rule_name == rule]
        # A dictionary has each reason once, in the order of the jobs.
        reasons = ", ".join(dict.fromkeys(filter(None, map(_reason, records))))
        wildcards = " ".join(filter(None, sorted(map(wildcards_of, records))))
        texts = ": ".join(filter(None, [reasons, wildcards]))
        line = f"  {rule:{max(map(len, rules))}} {len(records):4}  {texts}"
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 4].rstrip()} ...")
    return [*lines, "Nothing was run. Each job with its files: --verbose"]


def _reason(record: Any) -> str:
    """The first of `REASONS` for which a job runs, or ""."""
    return next((shown for words, shown in REASONS.items() if words in str(record.reason)), "")
