"""The plan that a dry run shows: a line for each rule, in place of two for each job."""

from collections.abc import Mapping, Sequence
from typing import Any

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


def plan(jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines that a dry run shows: for each rule its number of jobs, reasons and wildcards.

    An example is `  scan      2  no result yet: P01 P02`.

    Args:
        jobs: Snakemake's records of the jobs that would run.
    """
    if not jobs:
        return []
    jobs_by_rule: dict[str, list[Mapping[str, Any]]] = {}
    for job in jobs:
        jobs_by_rule.setdefault(job["rule_name"], []).append(job)
    width = max(map(len, jobs_by_rule))
    lines = [f"{len(jobs)} jobs would run:"]
    for rule, jobs_of_rule in jobs_by_rule.items():
        # A dictionary has each reason once, in the order of the jobs.
        reasons = ", ".join(dict.fromkeys(filter(None, map(_reason, jobs_of_rule))))
        line = f"  {rule:{width}} {len(jobs_of_rule):4}  {reasons}"
        all_wildcards = " ".join(filter(None, sorted(map(_wildcards, jobs_of_rule))))
        line += f": {all_wildcards}" if all_wildcards else ""
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 4].rstrip()} ...")
    return [*lines, "Nothing was run. Each job with its files: --verbose"]


def _wildcards(job: Mapping[str, Any]) -> str:
    """The values of a job's wildcards, as `P01 val`."""
    return " ".join(str(value) for value in (job["wildcards"] or {}).values())


def _reason(job: Mapping[str, Any]) -> str:
    """The first of `REASONS` for which a job runs, or ""."""
    return next((shown for words, shown in REASONS.items() if words in str(job["reason"])), "")
