"""The state of a run: its jobs, where they are, and what has failed."""

import re
import time
from dataclasses import dataclass
from datetime import timedelta
from logging import WARNING
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.logs import Failure, failure_of, lines_of

# When the last job of such a rule is done, a line tells so, since the work takes long or has a
# result. A result is a line of the log that begins like the second text.
STAGES = {
    "minikitchen_video": (),
    "proxy": (),
    "scan": (),
    "clean": ("train ",),
    "features": (),
    "train": ("epoch ",),
    "predict": (),
}
# An executor reports the id of a job in its queue like this.
SUBMITTED = re.compile(r"Job (\d+) has been submitted with \w+ jobid '?([\w.-]+)")
# Snakemake tries a job again.
RETRIED = re.compile(r"Trying to restart job (\d+)")
# A message of Snakemake that begins like this says that it stops; the values are the causes.
STOP_CAUSES = {"Will exit after": "SIGTERM", "Terminating processes": "Ctrl-C"}
# Messages that begin like this are shown although they are no warnings.
WORTH_SHOWING = (*STOP_CAUSES, "Nothing to be done", "Trial: ")
# Warnings and errors that begin like this only say what the last lines say better.
NOISE = (
    "--keep-incomplete",
    "Exiting because a job",
    "At least one job did not",
    "WorkflowError:\nAt",
)
# These errors only repeat the command of a job that failed.
BANNERS = ("RuleException", "CalledProcessError")


@dataclass
class Job:
    """A job of this run that has started.

    Attributes:
        record: Snakemake's record of its start, with what `read_log` adds.
        name: Rule and wildcards, as `scan P01`.
        state: active, done, failed, or again.
        id: The id in the cluster's queue, or "".
        failure: What to show if it failed.
    """

    record: Any
    name: str
    state: str = "active"
    id: str = ""
    failure: Failure = Failure([], "")


class Board:
    """The state of a run, built from Snakemake's records.

    Args:
        record: Snakemake's record with the number of jobs of each rule.
        folder: The folder in which the user gave the command, to which paths are relative.
    """

    def __init__(self, record: Any, folder: str):
        """Read the numbers of jobs, before any job has started."""
        self.folder = folder
        self.stats = {rule: int(count) for rule, count in record.stats.items()}
        self.total = self.stats.pop("total")
        self.started = time.time()
        self.jobs: dict[int, Job] = {}
        # Errors of Snakemake that are shown at the end if no job failed.
        self.errors: list[str] = []
        # The signal or key that stops the run, or "".
        self.stopped = ""
        # The jobs in the cluster's queue by id, or None if no executor has reported any.
        self.queue: dict[str, dict[str, str]] | None = None
        self._handlers = {
            LogEvent.JOB_INFO: self._begin,
            LogEvent.JOB_FINISHED: self._finish,
            LogEvent.JOB_ERROR: self._fail,
            LogEvent.ERROR: self._read,
            None: self._read,
        }

    def update(self, event: LogEvent | None, record: Any) -> list[str]:
        """Update the state with a record of Snakemake and return the lines to show for it."""
        handler = self._handlers.get(event)
        return handler(record) if handler else []

    def jobs_that_are(self, state: str, rule: str | None = None) -> list[Job]:
        """The jobs in this state, of one rule or of all rules, in the order of their start."""
        return [
            job
            for job in list(self.jobs.values())
            if job.state == state and rule in (None, job.record.rule_name)
        ]

    def _begin(self, record: Any) -> list[str]:
        """Note the start of a job, which may be another attempt."""
        name = f"{record.rule_name} {wildcards_of(record)}".rstrip()
        self.jobs[record.jobid] = Job(record, name)
        return []

    def _fail(self, record: Any) -> list[str]:
        """Note the failure of a job. It is shown when the job is tried again, or at the end."""
        job = self.jobs[record.jobid]
        # A log that did not change since the start is of an earlier try.
        lines = [] if record.log_state == job.record.log_state else record.log_lines
        job.failure = failure_of(job.name, record, lines, self.stopped, self.folder)
        job.state = "failed"
        return []

    def _finish(self, record: Any) -> list[str]:
        """Note that a job is done; return its warnings, and a line if its rule is complete."""
        job = self.jobs[int(record.job_id)]
        job.state = "done"
        rule = job.record.rule_name
        lines = lines_of(job.record.rule_log, job.record.log_state)
        shown = []
        for line in lines:
            # The warnings of a scan are about a video as a whole, so they are shown.
            if rule == "scan" and line.startswith("WARNING: "):
                shown.append(f"{job.name}: {line}")
        jobs = self.jobs_that_are("done", rule)
        if rule in STAGES and len(jobs) == self.stats[rule]:
            # Jobs of a rule run side by side, so this is the time from the first to the last.
            duration = since(min(job.record.created for job in jobs))
            results = [line for line in lines if line.startswith(STAGES[rule])]
            if len(jobs) > 1:
                shown.append(f"{rule}: {len(jobs)} jobs in {duration}")
            elif results:
                shown.append(f"{rule}: {results[-1]}, {duration}")
        return shown

    def _read(self, record: Any) -> list[str]:
        """Find the queue, a submission, a stop or a retry in a message; return lines to show."""
        text = record.getMessage().strip()
        self.queue = getattr(record, "slurm_jobs", self.queue)
        for beginning, cause in STOP_CAUSES.items():
            if text.startswith(beginning):
                self.stopped = cause
        if match := SUBMITTED.match(text):
            self.jobs[int(match[1])].id = match[2]
        if match := RETRIED.match(text):
            job = self.jobs[int(match[1])]
            job.state = "again"
            # A run that is being stopped tries nothing again.
            return [] if self.stopped else [*job.failure.lines, f"  {job.name} is tried again"]
        if getattr(record, "exception", "") in BANNERS:
            self.errors.append(text)
        elif text.startswith(NOISE):
            return []
        elif text and (record.levelno >= WARNING or text.startswith(WORTH_SHOWING)):
            return [text]
        return []


def wildcards_of(record: Any) -> str:
    """The values of a job's wildcards, as `P01 val`."""
    return " ".join(map(str, (record.wildcards or {}).values()))


def since(start: float) -> str:
    """The time since `start`, as `1:02:03`; a clock that was set back makes it no less than 0."""
    return str(timedelta(seconds=max(round(time.time() - start), 0)))
