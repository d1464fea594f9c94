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

# The executor tells the id that a job has at its scheduler: `Job 3 has been submitted with ...
# jobid 4711`.
SUBMITTED = re.compile(r"Job (\d+) (?:goes on as|has been submitted with) \w+ jobid '?([\w.-]+)")
# The logs of these rules tell their result in a line that begins like this. It is shown when the
# job is done.
RESULTS = {"clean": "", "train": "epoch "}
# The warnings of these rules are about a video as a whole, so they are shown.
FINDINGS = ("scan",)
# A message of Snakemake that begins like this tells that it stops, and by which signal or key.
STOP_CAUSES = {"Will exit after": "SIGTERM", "Terminating processes": "Ctrl-C"}
RETRIED = re.compile(r"Trying to restart job (\d+)")


@dataclass
class BoardJob:
    """A job of this run that has started; `id` is its id at the scheduler, or "".

    `log_before` is the state of its log at the start. A log that is still in this state is of an
    earlier try. The times of both are not compared, since the clock of a node may be wrong.
    """

    rule: str
    wildcards: str
    logs: list[str]
    outputs: list[str]
    log_before: LogState
    begun: float
    attempt: int
    local: bool  # It runs where snakemake runs.
    # It is active, done, failed, or again if Snakemake tries the job again.
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
        record: Snakemake's record with the number of jobs of each rule.
        here: The folder in which the user gave the command. The run may be in another folder.
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
        """The jobs in this state, of one rule or of all rules, in the order of their start."""
        jobs = list(self.jobs.values())
        return [job for job in jobs if job.state == state and rule in (None, job.rule)]

    def seen(self, path: str) -> str:
        """The path of a file of the run from the folder in which the user gave the command."""
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
        """Note the start of a job, which may be another attempt."""
        earlier = self.jobs.get(values["jobid"])
        logs = [str(path) for path in values["log"] or []]
        self.jobs[values["jobid"]] = BoardJob(
            rule=values["rule_name"],
            wildcards=" ".join(str(value) for value in (values["wildcards"] or {}).values()),
            logs=logs,
            outputs=[str(path) for path in values["output"] or []],
            log_before=state_of(logs[0]) if logs else None,
            begun=time.time(),
            attempt=earlier.attempt + 1 if earlier else 1,
            local=bool(values.get("local")),
        )

    def _finish(self, number: str | int) -> list[str]:
        """Note that a job is done; the lines of its log that are shown."""
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
            # Indented lines go on with the line before, so they are no results of their own.
            lines = lines_of(job.logs[0], job.log_before)
            lines = [line for line in lines if not line.startswith(" ")]
            result = [line for line in lines if line.startswith(RESULTS[job.rule])]
            return [f"{job.rule}: {line.removeprefix(f'{job.rule}: ')}" for line in result[-1:]]
        return []

    def spent(self) -> list[str]:
        """The time that each rule with outputs took, as `scan 1:02:03`, the longest first."""
        times = []
        for rule in {job.rule for job in self.jobs_that_are("done") if job.outputs}:
            jobs = self.jobs_that_are("done", rule)
            # Jobs of a rule run side by side, so this is the time from the first to the last.
            took = max(job.ended for job in jobs) - min(job.begun for job in jobs)
            times.append((took, f"{rule} {duration(max(took, 0))}"))
        return [text for _, text in sorted(times, reverse=True)]

    def _fail(self, values: dict) -> list[str]:
        """Note that a job failed; the lines to show now, which are none at the last attempt."""
        job = self.jobs.get(values["jobid"])
        if job is None:
            return []
        logs = [str(path) for path in values["log"] or []]
        failure = failure_of(
            job.name, logs, str(values["rule_msg"] or ""), job.log_before, self.stopped
        )
        failure.log = failure.log and self.seen(failure.log)
        if job.state == "again":
            # Snakemake announced the retry before. A run that is being stopped shows no failures.
            return [] if self.stopped else failure.lines()
        job.state, self.failures[job.name] = "failed", failure
        return []

    def _read(self, message: str) -> list[str]:
        """Take a stop, a submission or a retry from the text of a message; the lines to show."""
        causes = [
            cause for beginning, cause in STOP_CAUSES.items() if message.startswith(beginning)
        ]
        # At most one beginning matches. Without a match, an earlier cause stays.
        self.stopped = "".join(causes) or self.stopped
        if match := SUBMITTED.match(message):
            number, id_at_scheduler = match.groups()
            if job := self.jobs.get(int(number)):
                job.id, job.submitted = id_at_scheduler, time.time()
        elif (match := RETRIED.match(message)) and (job := self.jobs.get(int(match[1]))):
            # Snakemake tells of the retry before the failure or after it. If after, the failure is
            # shown now; if before, `_fail` will show it.
            job.state, failure = "again", self.failures.pop(job.name, None)
            retry_lines = [f"  {job.name} is tried again"]
            return [] if self.stopped else (failure.lines() if failure else []) + retry_lines
        return []


def duration(seconds: float) -> str:
    """Seconds as `1:02:03`, or `2:03` below one hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
