"""The status of the run: an updated block on a terminal, or a line every five minutes in a log."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from epic100.base.scheduler import ClusterJob, NoAnswerError, Scheduler, in_charge
from snakemake_logger_plugin_epic100.board import Board, BoardJob, duration
from snakemake_logger_plugin_epic100.display import Display, take_screen
from snakemake_logger_plugin_epic100.logs import lines_of

# The pause between two updates of the block on a terminal.
LOOK_SECONDS = 2.0
# The pause between two lines if the output is no terminal.
LINE_SECONDS = 300.0
# The pause between two questions to the scheduler, each about all jobs.
ASK_SECONDS = 30.0
# This many jobs of a rule are shown, running ones first. The others are only counted.
SHOWN = 4
# This many characters of a job's last line are shown.
WIDTH = 80
# The states of jobs in the order in which they are shown.
STATES = ("running", "pending", "submitted", "ended", "failed")


class Status(threading.Thread):
    """A thread that shows the state of the run until it ends, and holds the screen until then.

    Args:
        board: The state of the run.
    """

    def __init__(self, board: Board):
        """Take over the screen."""
        super().__init__(daemon=True)
        self.board = board
        self.display = Display(take_screen())
        # The jobs in the last answer of the scheduler, by its ids.
        self._cluster_jobs: dict[str, ClusterJob] = {}
        self._end = threading.Event()
        # The time of the next line, by `time.monotonic`.
        self._line_at = time.monotonic() + LINE_SECONDS
        # The time of the last question to the scheduler, by `time.monotonic`.
        self._asked_at = 0.0
        # The time of the last question that was answered, in seconds since 1970.
        self._answered_asked_at = 0.0

    def run(self) -> None:
        """Update the status until `stop`."""
        counts = [
            f"{rule} {count}" if count > 1 else rule
            for rule, count in sorted(self.board.stats.items())
        ]
        self.display.say(f"{self.board.total} jobs: {', '.join(counts)}")
        while not self._end.wait(LOOK_SECONDS):
            self._ask_scheduler()
            self.display.renew(self.block())
            if not self.display.is_terminal and time.monotonic() >= self._line_at:
                self._line_at = time.monotonic() + LINE_SECONDS
                self.display.say(" | ".join(line.strip() for line in self.block()))

    def stop(self, lines: Sequence[str]) -> None:
        """Stop the thread, show these lines in place of the block, and give the screen back."""
        self._end.set()
        self.join(10)
        self.display.renew([])
        for line in lines:
            self.display.say(line)
        self.display.give_back()

    def block(self) -> list[str]:
        """The lines of the status: a summary, and a line for each rule with active jobs.

        The summary is as `3 of 9 jobs done, 2 running, 1 failed (scan P02), 0:05:12`.
        """
        board = self.board
        jobs = board.jobs_that_are("active")
        counts = Counter(self._state(job) for job in jobs)
        counts["failed"] = len(board.jobs_that_are("failed"))
        texts = [f"{board.done} of {board.total} jobs done"]
        texts += [f"{counts[state]} {state}" for state in STATES if counts[state]]
        # The last of STATES is "failed", so the names of failed jobs follow their count.
        texts[-1] += f" ({', '.join([*board.failures][:SHOWN])})" if counts["failed"] else ""
        summary = ", ".join([*texts, duration(time.time() - board.started)])
        # A dictionary keeps the order of the rules, and each rule once.
        rules = dict.fromkeys(job.rule for job in jobs)
        return [summary, *(f"  {self._rule_line(rule)}" for rule in rules)]

    def _rule_line(self, rule: str) -> str:
        """The line of a rule: `scan 3/9: P01 running; P02 pending; 4 more`."""
        total = self.board.stats.get(rule, 0)
        active = self.board.jobs_that_are("active", rule)
        jobs = sorted(active, key=lambda job: STATES.index(self._state(job)))
        texts = [self._job_text(job) for job in jobs[:SHOWN]]
        texts += [f"{len(jobs) - SHOWN} more"] if len(jobs) > SHOWN else []
        done = len(self.board.jobs_that_are("done", rule))
        count = f" {done}/{total}" if total > 1 else ""
        return f"{rule}{count}: {'; '.join(texts)}"

    def _job_text(self, job: BoardJob) -> str:
        """The text about a job: wildcards, partition, attempt, and state or the log's last line."""
        state = self._state(job)
        cluster_job = self._cluster_jobs.get(job.id)
        where = cluster_job.where if cluster_job else ""
        if cluster_job and cluster_job.pending and cluster_job.reason:
            state = f"pending ({cluster_job.reason})"
        elif state == "running":
            # This list has one line, or none while the log is empty.
            last_lines = lines_of(job.logs[0], job.log_before)[-1:] if job.logs else []
            state = "".join(last_lines).removeprefix(f"{job.name}: ")[:WIDTH] or state
        attempt = f"attempt {job.attempt}" if job.attempt > 1 else ""
        return " ".join(filter(None, [job.wildcards, where, attempt, state]))

    def _state(self, job: BoardJob) -> str:
        """The state of an active job, one of `STATES`, by the last answer of the scheduler."""
        cluster_job = self._cluster_jobs.get(job.id)
        if job.local or in_charge().name == Scheduler.name:
            return "running"
        if cluster_job:
            return "pending" if cluster_job.pending else "running"
        # If the job was submitted after the question, the answer proves nothing about it.
        return "ended" if job.id and self._answered_asked_at > job.submitted else "submitted"

    def _ask_scheduler(self) -> None:
        """Ask the scheduler for the jobs of the run, unless it was asked just now."""
        if time.monotonic() - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = time.monotonic()
        asked_at = time.time()
        # Without an answer, the last one stays on the screen. The executor reports a lasting fault.
        with suppress(NoAnswerError):
            self._cluster_jobs = {job.id: job for job in in_charge().jobs(ASK_SECONDS)}
            self._answered_asked_at = asked_at
