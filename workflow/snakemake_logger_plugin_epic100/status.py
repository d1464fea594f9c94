"""The status of the run: an updated block on a terminal, or a line every five minutes in a log."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from epic100.slurm.commands import NoAnswerError
from epic100.slurm.executor import active
from epic100.slurm.jobs import SlurmJob, jobs_of
from snakemake_logger_plugin_epic100.board import Board, BoardJob, duration
from snakemake_logger_plugin_epic100.display import Display, Screen
from snakemake_logger_plugin_epic100.logs import lines_of

LOOK_SECONDS = 2.0
LINE_SECONDS = 300.0
SQUEUE_SECONDS = 30.0  # one squeue for all jobs
SHOWN = 4  # jobs shown per rule, running ones first; the others are only counted
WIDTH = 80  # characters of a job's last line that are shown


class Status(threading.Thread):
    """A thread that updates the status until the run ends. It has the screen until then."""

    def __init__(self, board: Board):
        super().__init__(daemon=True)
        self._screen = Screen()
        self.board, self.display = board, Display(self._screen.stream)
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
        self._screen.give_back()

    def block(self) -> list[str]:
        """The status: a summary line, and one line per rule with active jobs."""
        board = self.board
        active = board.jobs_that_are("active")
        waits = [job for job in active if self._is_pending(job)]
        failed = len(board.jobs_that_are("failed"))
        counts = [f"{board.done} of {board.total} jobs done", f"{len(active) - len(waits)} running"]
        counts += [f"{len(waits)} pending"] if waits else []
        counts += [f"{failed} failed"] if failed else []
        head = f"{', '.join(counts)}, {duration(time.time() - board.started)}"
        rules = dict.fromkeys(job.rule for job in active)
        return [head, *(f"  {self._rule_line(rule)}" for rule in rules)]

    def _rule_line(self, rule: str) -> str:
        done, total = len(self.board.jobs_that_are("done", rule)), self.board.stats.get(rule, 0)
        active = sorted(self.board.jobs_that_are("active", rule), key=self._is_pending)
        parts = [self._about(job) for job in active[:SHOWN]]
        parts += [f"{len(active) - SHOWN} more"] if len(active) > SHOWN else []
        count = f" {done}/{total}" if total > 1 else ""
        return f"{rule}{count}: {'; '.join(parts)}"

    def _about(self, job: BoardJob) -> str:
        """One job: its wildcards, where it runs, and the last line of its log."""
        there = self._slurm.get(job.slurm)
        where = f"{there.cluster}/{there.partition}" if there else ""
        if there and there.state == "PENDING":
            state = f"pending ({there.reason})" if there.reason != "None" else "pending"
        else:
            last = lines_of(job.logs[0], job.begun)[-1:] if job.logs else []
            state = "".join(last).removeprefix(f"{job.name}: ")[:WIDTH]
            state = state or ("" if there else self._unseen(job))
        again = f"attempt {job.attempt}" if job.attempt > 1 else ""
        return " ".join(filter(None, [job.wildcards, where, again, state])) or "running"

    def _unseen(self, job: BoardJob) -> str:
        if not active:
            return "running"
        if not job.slurm:
            return "being submitted"
        return "has left the queue" if self._answered > job.submitted else "submitted"

    def _is_pending(self, job: BoardJob) -> bool:
        there = self._slurm.get(job.slurm)
        return there is not None and there.state == "PENDING"

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
