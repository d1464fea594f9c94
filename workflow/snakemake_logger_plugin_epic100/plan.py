"""What a dry run shows: a line for each rule, in place of two for each job."""

from collections.abc import Mapping, Sequence
from typing import Any

# Snakemake's reasons contain these words, and mean this. Of a job's reasons, the first one in this
# order is shown.
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
    """The plan of a dry run: rule, number of jobs, why, and which.

    Args:
        jobs: Snakemake's records of them.
    """
    # The keys are rules, the values the wildcards of each job.
    wildcards_by_rule: dict[str, list[str]] = {}
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        wildcards = " ".join(str(value) for value in (job["wildcards"] or {}).values())
        wildcards_by_rule.setdefault(job["rule_name"], []).append(wildcards)
        meanings = [meaning for head, meaning in REASONS.items() if head in str(job["reason"])]
        reasons.setdefault(job["rule_name"], []).extend(meanings[:1])
    if not jobs:
        return []
    width = max(map(len, wildcards_by_rule))
    lines = [f"{len(jobs)} jobs would run:"]
    for rule, job_wildcards in wildcards_by_rule.items():
        line = f"  {rule:{width}} {len(job_wildcards):4}  {', '.join(dict.fromkeys(reasons[rule]))}"
        which = " ".join(filter(None, sorted(job_wildcards)))
        line += f": {which}" if which else ""
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 4].rstrip()} ...")
    for job in jobs:
        # The rule `train` says behind a colon whether it trains.
        if job["rule_name"] == "train" and (outlook := str(job["rule_msg"]).partition(": ")[2]):
            run = " ".join(["train", *map(str, (job["wildcards"] or {}).values())])
            lines.append(f"{run}: {outlook}")
    return [*lines, "Nothing was run. Each job with its files: --verbose"]
