"""The status of the run: an updated block on a terminal, or a line every five minutes in a log."""

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from epic100.slurm.executor import active
from epic100.slurm.jobs import NoAnswerError, SlurmJob, jobs_of
from snakemake_logger_plugin_epic100.board import Board, BoardJob, duration
from snakemake_logger_plugin_epic100.display import Display, take_screen
from snakemake_logger_plugin_epic100.logs import lines_of

LOOK_SECONDS = 2.0
LINE_SECONDS = 300.0
SQUEUE_SECONDS = 30.0  # one squeue for all jobs
SHOWN = 4  # jobs shown per rule, running ones first; the others are only counted
WIDTH = 80  # characters of a job's last line that are shown
STATES = ("running", "pending", "submitted", "ended", "failed")
# What Slurm's reasons for a pending job mean, by how they begin.
REASONS = {
    "Priority": "other jobs come first",
    "Resources": "it is next, and waits for a place",
    "ReqNodeNotAvail|Nodes|Partition": "its nodes are down, reserved or closed now",
    r"Assoc\w*(Billing|Minutes)": "the account has no credits left",
    "Assoc|QOS|MaxJobs": "you or your account have as much as is allowed at once",
    "JobHeld": "held: `scontrol release` lets it go on",
    "Dependency|BeginTime|Licenses|Reserv": "not before another job, a time or a license",
    "Invalid|AccountNot|BadConstraints": "it can never start: cancel it, and mend the request",
}


class Status(threading.Thread):
    """A thread that updates the status until the run ends. It has the screen until then."""

    def __init__(self, board: Board):
        super().__init__(daemon=True)
        self.board, self.display = board, Display(take_screen())
        self._slurm: dict[str, SlurmJob] = {}
        self._end = threading.Event()
        self._line_at = time.monotonic() + LINE_SECONDS
        self._asked = 0.0
        self._answered = 0.0  # time of the last squeue call that succeeded, seconds since 1970

    def run(self) -> None:
        """Update the status until `stop`."""
        stats = sorted(self.board.stats.items())
        counts = ", ".join(f"{rule} {n}" if n > 1 else rule for rule, n in stats)
        self.display.say(f"{self.board.total} jobs: {counts}")
        while not self._end.wait(LOOK_SECONDS):
            self._ask_slurm()
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
        """The status: a summary line, and one line per rule with active jobs."""
        board = self.board
        jobs = board.jobs_that_are("active")
        counts = Counter(self._state(job) for job in jobs)
        counts["failed"] = len(board.jobs_that_are("failed"))
        words = [f"{board.done} of {board.total} jobs done"]
        words += [f"{counts[word]} {word}" for word in STATES if counts[word]]
        words += [duration(time.time() - board.started)]
        rules = dict.fromkeys(job.rule for job in jobs)
        return [", ".join(words), *(f"  {self._rule_line(rule)}" for rule in rules)]

    def _rule_line(self, rule: str) -> str:
        done, total = len(self.board.jobs_that_are("done", rule)), self.board.stats.get(rule, 0)
        jobs = self.board.jobs_that_are("active", rule)
        jobs = sorted(jobs, key=lambda job: STATES.index(self._state(job)))
        parts = [self._about(job) for job in jobs[:SHOWN]]
        parts += [f"{len(jobs) - SHOWN} more"] if len(jobs) > SHOWN else []
        count = f" {done}/{total}" if total > 1 else ""
        return f"{rule}{count}: {'; '.join(parts)}"

    def _about(self, job: BoardJob) -> str:
        """One job: its wildcards, where it runs, and the last line of its log."""
        there, state = self._slurm.get(job.slurm), self._state(job)
        where = f"{there.cluster}/{there.partition}" if there else ""
        if there and state == "pending" and there.reason != "None":
            meant = [words for name, words in REASONS.items() if re.match(name, there.reason)]
            state = f"pending ({': '.join([there.reason, *meant[:1]])})"
        elif state == "running":
            last = lines_of(job.logs[0], job.begun)[-1:] if job.logs else []
            state = "".join(last).removeprefix(f"{job.name}: ")[:WIDTH] or state
        again = f"attempt {job.attempt}" if job.attempt > 1 else ""
        return " ".join(filter(None, [job.wildcards, where, again, state]))

    def _state(self, job: BoardJob) -> str:
        """One of STATES: what Slurm tells of a job, or what is known of it without."""
        there = self._slurm.get(job.slurm)
        if job.local or not active:
            return "running"
        if there:
            return "pending" if there.state == "PENDING" else "running"
        return "ended" if job.slurm and self._answered > job.submitted else "submitted"

    def _ask_slurm(self) -> None:
        if not active or time.monotonic() - self._asked < SQUEUE_SECONDS:
            return
        self._asked, asked = time.monotonic(), time.time()
        try:
            found = jobs_of(Path.cwd(), active[0].clusters, ["--me"], seconds=SQUEUE_SECONDS)
        except NoAnswerError:
            return  # the executor reports it if it matters
        self._answered = asked
        self._slurm = {job.id: job for job in found}
