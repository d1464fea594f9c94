"""What Slurm's answers about a job mean: one table, for sacct, squeue and the files alike.

sacct is asked first. It learns late of a job, may be away, and may answer without a job that it
knew. Then squeue is asked, which knows a job from its submission until some minutes after its end.
A job that squeue does not know in three answers is judged by its files. No question raises, and
none is about another run's jobs (docs/vsc.md has the table).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum

from epic100.base.scheduler import NoAnswerError
from epic100.slurm.commands import message_of, on, run, squeue

# Each command may take this long.
ANSWER_SECONDS = 60.0
# After this many answers of squeue without a job, its files tell.
POLLS = 3
# Clocks may differ, so sacct is asked about jobs from this long before the run began.
AGO = timedelta(days=1)


class Meaning(Enum):
    """What is known of a job."""

    SUBMITTED = "submitted"  # No command knows it yet.
    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"  # Slurm has forgotten it, so its files tell.


MEANINGS = {
    Meaning.PENDING: (
        "PENDING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    ),
    Meaning.RUNNING: (
        "CONFIGURING",
        "RUNNING",
        "COMPLETING",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "STOPPED",
        "SUSPENDED",
    ),
    Meaning.ENDED: (
        "COMPLETED",
        "FAILED",
        "TIMEOUT",
        "OUT_OF_MEMORY",
        "DEADLINE",
        "CANCELLED",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "REVOKED",
        "LAUNCH_FAILED",
        "RECONFIG_FAIL",
    ),
}
MEANS = {state: meaning for meaning, states in MEANINGS.items() for state in states}


class Asker:
    """Asks for the states of a run's jobs.

    Args:
        facts: `names` and `clusters` of the run, as `scheduler.Slurm` keeps them.
        say: Gets a line for the user, which it shows once.
        sacct: Whether sacct is asked at all.
    """

    def __init__(self, facts: dict[str, list[str]], say: Callable[[str], None], sacct: bool = True):
        self.facts, self.say, self.sacct = facts, say, sacct
        self._since = f"{datetime.now() - AGO:%Y-%m-%dT%H:%M:%S}"
        # It counts the answers of squeue without a job.
        self._untold: Counter[str] = Counter()

    def states(self, jobs: Collection[str]) -> dict[str, tuple[Meaning, str]]:
        """What is known of each of these jobs now, with Slurm's word for it.

        Args:
            jobs: Ids.
        """
        slurm_states, trouble = self._from_sacct() if self.sacct else ({}, "")
        missing = [job for job in jobs if job not in slurm_states]
        answered = True
        if missing:
            try:
                slurm_states = self._from_squeue() | slurm_states
            except NoAnswerError as error:
                answered = False
                why = trouble or "sacct lacks a job"
                self.say(f"{why}, nor does squeue tell ({error}); jobs run on")
        if trouble and answered:
            self.say(f"{trouble}, squeue answers")
        for job in missing:
            self._untold[job] = 0 if job in slurm_states else self._untold[job] + answered
        return {job: self._meaning(job, slurm_states.get(job, "")) for job in jobs}

    def _meaning(self, job: str, state: str) -> tuple[Meaning, str]:
        if not state:
            forgotten = self._untold[job] >= POLLS
            return (Meaning.UNKNOWN if forgotten else Meaning.SUBMITTED), ""
        if state not in MEANS:
            self.say(f"job {job} is {state}, which is no state that is known here; asking again")
        return MEANS.get(state, Meaning.RUNNING), state

    def _from_sacct(self) -> tuple[dict[str, str], str]:
        options = ["-X", "--parsable2", "--noheader", "--format", "JobIDRaw,State"]
        options += ["--starttime", self._since]
        names = ["--name", ",".join(self.facts["names"])]
        done = run(["sacct", *on(self.facts["clusters"]), *options, *names], ANSWER_SECONDS)
        trouble = f"sacct does not tell ({message_of(done)})" if done.returncode else ""
        return first_words(line.split("|") for line in done.stdout.splitlines()), trouble

    def _from_squeue(self) -> dict[str, str]:
        rows = squeue(
            ("JobID", "State"),
            self.facts["clusters"],
            self.facts["names"],
            "--states",
            "all",
            seconds=ANSWER_SECONDS,
        )
        return first_words(list(row.values()) for row in rows)


def first_words(rows: Iterable[Sequence[str]]) -> dict[str, str]:
    """The state of each job: the first word, as of `CANCELLED by 1000`. Other rows are left out."""
    states = {}
    for row in rows:
        if len(row) >= 2 and row[0].strip().isdigit() and row[1].strip():
            states[row[0].strip()] = re.split(r"[\s+]", row[1].strip())[0]
    return states
