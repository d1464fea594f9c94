"""The plan that a dry run shows: a line for each rule, in place of two for each job."""

from collections.abc import Mapping, Sequence
from typing import Any

# Snakemake's reasons contain the words on the left; those on the right are shown. If a job has
# several reasons, the first one in this order is shown.
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
    # The keys are rules, the values the wildcards of each job.
    wildcards_by_rule: dict[str, list[str]] = {}
    reasons_by_rule: dict[str, list[str]] = {}
    for job in jobs:
        wildcards = " ".join(str(value) for value in (job["wildcards"] or {}).values())
        wildcards_by_rule.setdefault(job["rule_name"], []).append(wildcards)
        reasons = [shown for words, shown in REASONS.items() if words in str(job["reason"])]
        reasons_by_rule.setdefault(job["rule_name"], []).extend(reasons[:1])
    if not jobs:
        return []
    width = max(map(len, wildcards_by_rule))
    lines = [f"{len(jobs)} jobs would run:"]
    for rule, job_wildcards in wildcards_by_rule.items():
        shown_reasons = ", ".join(dict.fromkeys(reasons_by_rule[rule]))
        line = f"  {rule:{width}} {len(job_wildcards):4}  {shown_reasons}"
        all_wildcards = " ".join(filter(None, sorted(job_wildcards)))
        line += f": {all_wildcards}" if all_wildcards else ""
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 4].rstrip()} ...")
    for job in jobs:
        # The message of the rule `train` says behind a colon whether it trains.
        _, _, outlook = str(job["rule_msg"]).partition(": ")
        if job["rule_name"] == "train" and outlook:
            job_name = " ".join(["train", *map(str, (job["wildcards"] or {}).values())])
            lines.append(f"{job_name}: {outlook}")
    return [*lines, "Nothing was run. Each job with its files: --verbose"]
