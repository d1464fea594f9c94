"""The state of the run: its jobs, their progress, and what has failed."""

import os
import re
import time
from dataclasses import dataclass
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.logs import (
    Failure,
    LogState,
    failure_of,
    lines_of,
    state_of,
)

SUBMITTED = re.compile(r"Job (\d+) (?:goes on as|has been submitted with) \w+ jobid '?([\w.-]+)")
# The logs of these rules say what came out, in a line that begins like this. How long a rule took
# is shown at the end, for all rules alike.
RESULTS = {"clean": "", "train": "epoch "}
# The warnings of these rules are about a video as a whole, so they are shown.
FINDINGS = ("scan",)
# A message of Snakemake that begins like this tells what asked it to stop.
ASKED = {"Will exit after": "SIGTERM", "Terminating processes": "Ctrl-C"}
AGAIN = re.compile(r"Trying to restart job (\d+)")


@dataclass
class BoardJob:
    """A job of this run that has started; `id` is that of its scheduler, or "".

    `log_before` is the state of its log then: a log that is unchanged is of an earlier try. The
    clock of its node may be wrong.
    """

    rule: str
    wildcards: str
    logs: list[str]
    outputs: list[str]
    log_before: LogState
    begun: float
    attempt: int
    local: bool  # It runs where snakemake runs.
    # It is active, done, failed or again.
    state: str = "active"
    id: str = ""
    submitted: float = 0.0
    ended: float = 0.0

    @property
    def name(self) -> str:
        """Rule and wildcards."""
        return f"{self.rule} {self.wildcards}".rstrip()


class Board:
    """The state of the run, built from Snakemake's events.

    Args:
        record: Snakemake's count of the jobs by rule.
        here: The folder in which the user gave the command; that of the run may be another.
    """

    def __init__(self, record: LogRecord, here: Path):
        self.here = here
        stats = getattr(record, "stats", {})
        self.stats = {rule: int(count) for rule, count in stats.items() if rule != "total"}
        self.total = sum(self.stats.values())
        self.started = time.time()
        self.done = 0
        self.jobs: dict[int, BoardJob] = {}
        # The keys are names of jobs that have not succeeded since.
        self.failures: dict[str, Failure] = {}
        # It is set after an error that the same command would meet again.
        self.refused = False
        # It names what asked the run to stop.
        self.stopped = ""

    def jobs_that_are(self, state: str, rule: str | None = None) -> list[BoardJob]:
        """The jobs in this state, of all rules or of one, in the order in which they started."""
        jobs = list(self.jobs.values())
        return [job for job in jobs if job.state == state and rule in (None, job.rule)]

    def seen(self, path: str) -> str:
        """A path of the run as the user would type it."""
        return os.path.abspath(path).removeprefix(f"{self.here}/")

    def take(self, event: LogEvent | None, record: LogRecord) -> list[str]:
        """Update the state with an event and return the lines to show for it."""
        if event == LogEvent.JOB_INFO:
            self._begin(vars(record))
        elif event == LogEvent.JOB_FINISHED:
            return self._finish(vars(record)["job_id"])
        elif event == LogEvent.JOB_ERROR:
            return self._fail(vars(record))
        elif event is None:
            return self._read(record.getMessage())
        return []

    def _begin(self, values: dict) -> None:
        before = self.jobs.get(values["jobid"])
        logs = [str(path) for path in values["log"] or []]
        self.jobs[values["jobid"]] = BoardJob(
            rule=values["rule_name"],
            wildcards=" ".join(str(value) for value in (values["wildcards"] or {}).values()),
            logs=logs,
            outputs=[str(path) for path in values["output"] or []],
            log_before=state_of(logs[0]) if logs else None,
            begun=time.time(),
            attempt=before.attempt + 1 if before else 1,
            local=bool(values.get("local")),
        )

    def _finish(self, number: str | int) -> list[str]:
        self.done += 1
        job = self.jobs.get(int(number))
        if job is None:
            return []
        job.state, job.ended = "done", time.time()
        self.failures.pop(job.name, None)
        if job.rule in FINDINGS:
            lines = lines_of(job.logs[0], job.log_before)
            return [f"{job.name}: {line}" for line in lines if line.startswith("WARNING: ")]
        if job.rule in RESULTS and self.stats.get(job.rule, 0) <= 1:
            lines = [line for line in lines_of(job.logs[0], job.log_before) if line[0] != " "]
            result = [line for line in lines if line.startswith(RESULTS[job.rule])]
            return [f"{job.rule}: {line.removeprefix(f'{job.rule}: ')}" for line in result[-1:]]
        return []

    def spent(self) -> list[str]:
        """How long each rule took that has made files, the longest first."""
        times = []
        for rule in {job.rule for job in self.jobs_that_are("done") if job.outputs}:
            jobs = self.jobs_that_are("done", rule)
            took = max(job.ended for job in jobs) - min(job.begun for job in jobs)
            times.append((took, f"{rule} {duration(max(took, 0))}"))
        return [text for _, text in sorted(times, reverse=True)]

    def _fail(self, values: dict) -> list[str]:
        job = self.jobs.get(values["jobid"])
        if job is None:
            return []
        logs = [str(path) for path in values["log"] or []]
        failure = failure_of(
            job.name, logs, str(values["rule_msg"] or ""), job.log_before, self.stopped
        )
        failure.log = failure.log and self.seen(failure.log)
        if job.state == "again":
            return [] if self.stopped else failure.lines()
        job.state, self.failures[job.name] = "failed", failure
        return []

    def _read(self, message: str) -> list[str]:
        causes = [cause for beginning, cause in ASKED.items() if message.startswith(beginning)]
        self.stopped = "".join(causes) or self.stopped
        if match := SUBMITTED.match(message):
            if job := self.jobs.get(int(match[1])):
                job.id, job.submitted = match[2], time.time()
        elif (match := AGAIN.match(message)) and (job := self.jobs.get(int(match[1]))):
            # Snakemake tells of the new try before the failure or after it.
            job.state, failure = "again", self.failures.pop(job.name, None)
            retry_lines = [f"  {job.name} is tried again"]
            return [] if self.stopped else (failure.lines() if failure else []) + retry_lines
        return []


def duration(seconds: float) -> str:
    """Format seconds as h:mm:ss, or m:ss below one hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
