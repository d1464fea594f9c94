"""The state of the run: its jobs, their progress, and what has failed."""

import os
import re
import time
from dataclasses import dataclass
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.logs import Failure, LogState, failure_of, lines_of

# A message of the executor with the id of a job at its scheduler: `Job 3 has been submitted with
# ... jobid 4711`.
SUBMITTED = re.compile(r"Job (\d+) (?:goes on as|has been submitted with) \w+ jobid '?([\w.-]+)")
# The logs of these rules have their result in a line that begins like this. It is shown at the end
# of the job.
RESULTS = {"clean": "", "train": "epoch "}
# The warnings of these rules are about a video as a whole, so they are shown.
FINDINGS = ("scan",)
# A message of Snakemake that begins like this says that it stops; the values are the causes.
STOP_CAUSES = {"Will exit after": "SIGTERM", "Terminating processes": "Ctrl-C"}
# A message of Snakemake with the number of a job that it tries again.
RETRIED = re.compile(r"Trying to restart job (\d+)")


@dataclass
class BoardJob:
    """A job of this run that has started; `id` is its id at the scheduler, or "".

    `log_before` is the state of its log at the start. A log that is still in this state is of an
    earlier try. The time of the log is not compared with the time of the start, since the clock of
    a node may be wrong.
    """

    rule: str
    wildcards: str
    logs: list[str]
    outputs: list[str]
    log_before: LogState
    begun: float
    attempt: int
    local: bool  # It runs where snakemake runs.
    # The state is active, done, failed, or again if Snakemake tries the job again.
    state: str = "active"
    id: str = ""
    submitted: float = 0.0
    ended: float = 0.0

    @property
    def name(self) -> str:
        """Rule and wildcards, as `scan P01`."""
        return f"{self.rule} {self.wildcards}".rstrip()


class Board:
    """The state of the run, built from Snakemake's events.

    Args:
        record: Snakemake's record with the number of jobs of each rule.
        here: The folder in which the user gave the command. The run may be in another folder.
    """

    def __init__(self, record: LogRecord, here: Path):
        """Read the numbers of jobs, before any job has started."""
        self.here = here
        stats = getattr(record, "stats", {})
        self.stats = {rule: int(count) for rule, count in stats.items() if rule != "total"}
        self.total = sum(self.stats.values())
        self.started = time.time()
        self.done = 0
        self.jobs: dict[int, BoardJob] = {}
        # The failures of jobs that have not succeeded since, by the name of the job.
        self.failures: dict[str, Failure] = {}
        # Whether an error ended the run that the same command would meet again.
        self.refused = False
        # The signal or key that stops the run, or "".
        self.stopped = ""

    def jobs_that_are(self, state: str, rule: str | None = None) -> list[BoardJob]:
        """The jobs in this state, of one rule or of all rules, in the order of their start."""
        jobs = list(self.jobs.values())
        return [job for job in jobs if job.state == state and rule in (None, job.rule)]

    def path_from_here(self, path: str) -> str:
        """The path of a file, relative to the folder in which the user gave the command."""
        return os.path.abspath(path).removeprefix(f"{self.here}/")

    def update(self, event: LogEvent | None, record: LogRecord) -> list[str]:
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
            log_before=values["log_before"],
            begun=time.time(),
            attempt=earlier.attempt + 1 if earlier else 1,
            local=bool(values.get("local")),
        )

    def _finish(self, number: str | int) -> list[str]:
        """Note that a job is done, and return the lines of its log that are shown."""
        self.done += 1
        job = self.jobs.get(int(number))
        if job is None:
            return []
        job.state = "done"
        job.ended = time.time()
        self.failures.pop(job.name, None)
        if job.rule in FINDINGS:
            lines = lines_of(job.logs[0], job.log_before)
            return [f"{job.name}: {line}" for line in lines if line.startswith("WARNING: ")]
        if job.rule in RESULTS and self.stats.get(job.rule, 0) <= 1:
            lines = lines_of(job.logs[0], job.log_before)
            # An indented line continues the line before, so it is no result.
            results = [line for line in lines if re.match(rf"(?! ){RESULTS[job.rule]}", line)]
            return [f"{job.rule}: {line.removeprefix(f'{job.rule}: ')}" for line in results[-1:]]
        return []

    def durations(self) -> list[str]:
        """The duration of each rule with outputs, as `scan 1:02:03`, the longest first."""
        times = []
        for rule in {job.rule for job in self.jobs_that_are("done") if job.outputs}:
            jobs = self.jobs_that_are("done", rule)
            # Jobs of a rule run side by side, so this is the time from the first to the last.
            seconds = max(job.ended for job in jobs) - min(job.begun for job in jobs)
            # A clock that was set back must not make the duration negative.
            times.append((seconds, f"{rule} {duration(max(seconds, 0))}"))
        return [text for _, text in sorted(times, reverse=True)]

    def _fail(self, values: dict) -> list[str]:
        """Note that a job failed, and return the lines to show now: none at the last attempt."""
        job = self.jobs.get(values["jobid"])
        if job is None:
            return []
        logs = [str(path) for path in values["log"] or []]
        message = str(values["rule_msg"] or "")
        failure = failure_of(job.name, logs, values["log_lines"], message, self.stopped)
        if failure.log:
            failure.log = self.path_from_here(failure.log)
        if job.state == "again":
            # Snakemake announced the retry before. A run that is being stopped shows no failures.
            return [] if self.stopped else failure.lines()
        job.state = "failed"
        self.failures[job.name] = failure
        return []

    def _read(self, message: str) -> list[str]:
        """Find a stop, a submission or a retry in a message, and return the lines to show."""
        for beginning, cause in STOP_CAUSES.items():
            if message.startswith(beginning):
                self.stopped = cause
        if match := SUBMITTED.match(message):
            if job := self.jobs.get(int(match[1])):
                job.id = match[2]
                job.submitted = time.time()
        elif (match := RETRIED.match(message)) and (job := self.jobs.get(int(match[1]))):
            job.state = "again"
            # Snakemake reports the retry before the failure or after it. If after, the failure is
            # shown now; if before, `_fail` will show it.
            failure = self.failures.pop(job.name, None)
            lines = failure.lines() if failure else []
            return [] if self.stopped else [*lines, f"  {job.name} is tried again"]
        return []


def duration(seconds: float) -> str:
    """Seconds as `1:02:03`, or `2:03` below one hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
