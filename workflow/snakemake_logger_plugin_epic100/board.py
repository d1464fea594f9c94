"""The state of the run: its jobs, their progress, and what has failed."""

import re
import time
from dataclasses import dataclass, field
from logging import LogRecord

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.failures import Failure, failure_of

SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid (\d+)")
AGAIN = re.compile(r"Trying to restart job (\d+)")
WORTH_SHOWING = (
    "Nothing to be done",
    "Complete log(s)",
    "Terminating processes",
    "Will exit after",
)


@dataclass
class BoardJob:
    """A job of this run that has started; `slurm` is its Slurm job id, or ""."""

    rule: str
    wildcards: str
    logs: list[str]
    outputs: list[str]
    begun: float
    state: str = "active"  # active, done, failed, again
    slurm: str = ""
    submitted: float = 0.0
    attempt: int = 1

    @property
    def name(self) -> str:
        """Rule and wildcards."""
        return f"{self.rule} {self.wildcards}".rstrip()


@dataclass
class Board:
    """The state of the run, built from Snakemake's events."""

    started: float = field(default_factory=time.time)
    stats: dict[str, int] = field(default_factory=dict)  # jobs by rule, without the total
    jobs: dict[int, BoardJob] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    done: int = 0

    @property
    def total(self) -> int:
        """Number of jobs of the run."""
        return sum(self.stats.values())

    def of_rule(self, rule: str, state: str) -> list[BoardJob]:
        """The jobs of a rule that are in this state."""
        return [j for j in list(self.jobs.values()) if j.rule == rule and j.state == state]

    def in_state(self, state: str) -> list[BoardJob]:
        """The jobs in this state, in the order in which they started."""
        return [job for job in list(self.jobs.values()) if job.state == state]

    def take(self, event: LogEvent | None, record: LogRecord) -> list[str]:
        """Update the state with an event and return the lines to show for it."""
        if event == LogEvent.RUN_INFO and hasattr(record, "stats"):
            stats = {rule: int(n) for rule, n in record.stats.items() if rule != "total"}
            self.stats = stats if not self.stats else self.stats
        elif event == LogEvent.JOB_INFO:
            self._begin(record)
        elif event == LogEvent.JOB_FINISHED:
            return self._finish(int(record.job_id))  # type: ignore[attr-defined]
        elif event == LogEvent.JOB_ERROR:
            return self._fail(record)
        elif event is None:
            return self._read(record.getMessage())
        return []

    def is_worth_showing(self, message: str) -> bool:
        """Whether a message below warning level belongs on the screen."""
        return message.startswith(WORTH_SHOWING)

    def _begin(self, record: LogRecord) -> None:
        values = vars(record)
        before = self.jobs.get(values["jobid"])
        self.jobs[values["jobid"]] = BoardJob(
            rule=values["rule_name"],
            wildcards=" ".join(str(value) for value in (values["wildcards"] or {}).values()),
            logs=[str(path) for path in values["log"] or []],
            outputs=[str(path) for path in values["output"] or []],
            begun=time.time(),
            attempt=before.attempt + 1 if before else 1,
        )

    def _finish(self, number: int) -> list[str]:
        self.done += 1
        job = self.jobs.get(number)
        if job is None:
            return []
        job.state = "done"
        for failure in self.failures:
            failure.mended = failure.mended or failure.job == job.name
        finished = self.of_rule(job.rule, "done")
        if len(finished) < self.stats.get(job.rule, 0) or not job.outputs:
            return []  # a rule without outputs is only a target
        spent = max(time.time() - min(j.begun for j in finished), 0)
        jobs = f"{len(finished)} jobs" if len(finished) > 1 else "done"
        return [f"{job.rule}: {jobs} in {duration(spent)}"]

    def _fail(self, record: LogRecord) -> list[str]:
        values = vars(record)
        job = self.jobs.get(values["jobid"])
        if job is None:
            return []
        job.state = "failed"
        failure = failure_of(job.name, [str(path) for path in values["log"] or []],
                             str(values["rule_msg"] or ""))  # fmt: skip
        self.failures.append(failure)
        return failure.lines()

    def _read(self, message: str) -> list[str]:
        if match := SUBMITTED.match(message):
            if job := self.jobs.get(int(match[1])):
                job.slurm, job.submitted = match[2], time.time()
        elif (match := AGAIN.match(message)) and (job := self.jobs.get(int(match[1]))):
            job.state = "again"
            return [f"  {job.name} is tried again"]
        return []


def duration(seconds: float) -> str:
    """Format seconds as h:mm:ss, or m:ss below one hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
