"""The states of a run's jobs, from the answers of sacct and squeue.

sacct is asked first. It learns of a job with a delay, may not answer, and may answer without a job
that it knew. Then squeue is asked, which knows a job from its submission until some minutes after
its end. If three answers of squeue do not have a job, the files of the job show how it ended. No
question raises an exception, and none is about another run's jobs (docs/vsc.md has the table).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum

from epic100.base.scheduler import NoAnswerError
from epic100.slurm.commands import clusters_option, message_of, run, squeue

# Each command may take this long.
ANSWER_SECONDS = 60.0
# After this many answers of squeue without a job, its files show how it ended.
POLLS = 3
# Clocks may differ, so sacct is asked about jobs from this long before the run began.
CLOCK_TOLERANCE = timedelta(days=1)


class Meaning(Enum):
    """The state of a job, in the five classes that a run distinguishes."""

    SUBMITTED = "submitted"  # No command knows it yet.
    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"  # Slurm has forgotten it, so its files show how it ended.


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
# The same table by Slurm's state, as `CANCELLED`.
MEANING_OF_STATE = {state: meaning for meaning, states in MEANINGS.items() for state in states}


class Asker:
    """Asks sacct, then squeue, for the states of a run's jobs.

    Args:
        facts: The names of the run's jobs under `names`, and their clusters under `clusters`.
            `scheduler.Slurm` has the same dictionary, to which the executor adds.
        say: A function that shows the user a line, each line once.
        sacct: Whether sacct is asked at all.
    """

    def __init__(self, facts: dict[str, list[str]], say: Callable[[str], None], sacct: bool = True):
        """Begin without an answer of any command."""
        self.facts = facts
        self.say = say
        self.sacct = sacct
        self._since = f"{datetime.now() - CLOCK_TOLERANCE:%Y-%m-%dT%H:%M:%S}"
        # For each job, it counts the answers of squeue in a row that did not have the job.
        self._answers_without: Counter[str] = Counter()

    def states(self, jobs: Collection[str]) -> dict[str, tuple[Meaning, str]]:
        """Ask for the present state of each of these jobs.

        Args:
            jobs: Ids of jobs.

        Returns:
            For each job its meaning and Slurm's own word, as `(Meaning.ENDED, "TIMEOUT")`.
        """
        slurm_states, sacct_trouble = self._from_sacct() if self.sacct else ({}, "")
        missing = [job for job in jobs if job not in slurm_states]
        squeue_answered = True
        if missing:
            try:
                slurm_states = self._from_squeue() | slurm_states
            except NoAnswerError as error:
                squeue_answered = False
                why = sacct_trouble or "sacct lacks a job"
                self.say(f"{why}, nor does squeue tell ({error}); jobs run on")
        if sacct_trouble and squeue_answered:
            self.say(f"{sacct_trouble}, squeue answers")
        # A squeue that does not answer proves nothing about a job.
        for job in missing if squeue_answered else []:
            answers = self._answers_without[job] + 1
            self._answers_without[job] = 0 if job in slurm_states else answers
        return {job: self._meaning(job, slurm_states.get(job, "")) for job in jobs}

    def _meaning(self, job: str, state: str) -> tuple[Meaning, str]:
        """The meaning of Slurm's state of a job, and the state, which is "" if it is not known."""
        if not state:
            is_forgotten = self._answers_without[job] >= POLLS
            return (Meaning.UNKNOWN if is_forgotten else Meaning.SUBMITTED), state
        if state not in MEANING_OF_STATE:
            self.say(f"job {job} is {state}, which is no state that is known here; asking again")
        # A job in an unknown state counts as running, so that it is asked for again.
        return MEANING_OF_STATE.get(state, Meaning.RUNNING), state

    def _from_sacct(self) -> tuple[dict[str, str], str]:
        """Ask sacct for the states of the run's jobs.

        Returns:
            Slurm's state of each job by its id, and a message if sacct failed, else "".
        """
        options = ["-X", "--parsable2", "--noheader", "--format", "JobIDRaw,State"]
        options += ["--name", ",".join(self.facts["names"]), "--starttime", self._since]
        done = run(["sacct", *clusters_option(self.facts["clusters"]), *options], ANSWER_SECONDS)
        trouble = f"sacct does not tell ({message_of(done)})" if done.returncode else ""
        return states_by_id(line.split("|") for line in done.stdout.splitlines()), trouble

    def _from_squeue(self) -> dict[str, str]:
        """Slurm's state of each job by its id, from squeue. Raises NoAnswerError if it fails."""
        rows = squeue(
            ("JobID", "State"),
            self.facts["clusters"],
            self.facts["names"],
            "--states",
            "all",
            seconds=ANSWER_SECONDS,
        )
        return states_by_id(list(row.values()) for row in rows)


def states_by_id(rows: Iterable[Sequence[str]]) -> dict[str, str]:
    """Map the id of each job to the first word of its state: `7` to `CANCELLED`.

    Args:
        rows: Rows of job and state, as `["7", "CANCELLED by 1000"]`. A row without a number of a
            job or without a state is left out.
    """
    states = {}
    for row in rows:
        if len(row) >= 2 and row[0].strip().isdigit() and row[1].strip():
            # A state may go on behind a blank or a `+`, as `CANCELLED by 1000` or `RUNNING+`.
            states[row[0].strip()] = re.split(r"[\s+]", row[1].strip())[0]
    return states
