"""What a dry run shows: a line for each rule, in place of two for each job."""

from pathlib import Path
from typing import Any

# How Snakemake's reasons begin, and what they mean. A job's first one here is shown.
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
WIDTH = 96  # columns of a line


class Plan:
    """The jobs of a dry run, as Snakemake names them one by one."""

    def __init__(self) -> None:
        self._jobs: dict[str, list[str]] = {}  # the wildcards of each job, by rule
        self._reasons: dict[str, dict[str, None]] = {}

    def add(self, job: dict[str, Any]) -> None:
        """Add a job.

        Args:
            job: Snakemake's record of it.
        """
        rule, reason = job["rule_name"], str(job["reason"])
        names = " ".join(str(value) for value in (job["wildcards"] or {}).values())
        self._jobs.setdefault(rule, []).append(names)
        said = [words for head, words in REASONS.items() if head in reason]
        self._reasons.setdefault(rule, {}).update(dict.fromkeys(said[:1]))

    def lines(self) -> list[str]:
        """The plan: rule, number of jobs, why, and which."""
        total = sum(map(len, self._jobs.values()))
        if not total:
            return []
        wide = max(map(len, self._jobs))
        lines = [f"{total} jobs would run:"]
        for rule, names in self._jobs.items():
            line = f"  {rule:{wide}} {len(names):4}  {', '.join(self._reasons[rule])}"
            which = " ".join(filter(None, sorted(names)))
            line += f": {which}" if which else ""
            lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 4].rstrip()} ...")
        if "train" in self._jobs and (
            kept := len(list(Path().glob("results/work_dirs/*/model.pth")))
        ):
            lines.append(
                f"{kept} finished trainings are in results/work_dirs; one of the same settings and "
                "lists is taken from there, and nothing is trained"
            )
        return [*lines, "Nothing was run. Each job with its files: --verbose"]
