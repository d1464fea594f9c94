"""What the library asks of the scheduler whose jobs it runs in, or whose jobs a run submits.

It asks four things: which jobs of a run have not ended, to cancel some, what this process was
granted, and how to start a program on each node. `Scheduler` itself is the answer where there is
none. Another one is a part of the library with a module `scheduler`, which holds its class `HERE`
(docs/other-clusters.md).
"""

import functools
import importlib.util
import os
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import epic100
from epic100.base.errors import EpicError

# A scheduler has so long to answer.
ASK_SECONDS = 60.0


class NoAnswerError(RuntimeError):
    """A command of the scheduler failed or timed out.

    Args:
        message: The scheduler's own message.
        never: Whether asking again is useless: there is no such program or cluster here.
    """

    def __init__(self, message: str, never: bool = False):
        """Keep the message, and whether asking again is useless."""
        super().__init__(message)
        self.never = never


@dataclass(frozen=True)
class ClusterJob:
    """A job on a cluster that has not ended.

    Args:
        about: The rule and the wildcards of the job.
        id: The scheduler's id of the job.
        where: The cluster and the partition, or the queue.
        state: The state in the scheduler's own word, such as RUNNING.
        pending: Whether the job has not started yet.
        elapsed: The time since the job started, as text.
        user: The user who submitted the job.
        reason: Why the job is pending, in words for the user.
        cluster: The name of the cluster, or "".
    """

    about: str
    id: str
    where: str
    state: str
    pending: bool
    elapsed: str
    user: str
    reason: str = ""
    cluster: str = ""

    def __str__(self) -> str:
        """Describe the job for a message: `train: job 7 of ann on wice batch, running, 1:30:00`."""
        return (
            f"{self.about}: job {self.id} of {self.user} on {self.where}, {self.state.lower()}, "
            f"{self.elapsed}"
        )


@dataclass(frozen=True)
class Grant:
    """The job and the GPUs that a scheduler granted to a process.

    Args:
        job: The job in which the process runs, as `id@cluster`; "" for none.
        gpus: Evidence that the job has GPUs, as text for messages, or None.
    """

    job: str = ""
    gpus: str | None = None


class Scheduler:
    """The interface of a scheduler. This class itself stands for none: all runs on this machine.

    Args:
        facts: Plain values by which the scheduler finds the jobs of a run. The run's record keeps
            them.
    """

    name: ClassVar[str] = "none"

    def __init__(self, **facts: Any):
        """Keep the values by which the jobs of a run are found."""
        self.facts = facts

    @classmethod
    def look_up_site(cls, name: str) -> None:
        """Look up a cluster site that the user named. Raises EpicError if no such site is known."""

    def jobs(self, seconds: float = ASK_SECONDS) -> list[ClusterJob]:
        """Return the jobs of the run that have not ended.

        Raises:
            NoAnswerError: The scheduler does not answer within `seconds`.
        """
        return []

    def cancel(self, jobs: Iterable[ClusterJob]) -> None:
        """Cancel these jobs.

        Raises:
            EpicError: The scheduler refuses.
        """

    def granted(self, environment: Mapping[str, str] = os.environ) -> Grant:
        """Return the job and the GPUs of a process with these environment variables."""
        return Grant()

    def on_nodes(self, count: int, wait: float) -> tuple[list[str], str]:
        """Return the command that starts a program on each node of this job.

        Args:
            count: Number of nodes.
            wait: When the program has ended on one node, it is ended on the others after so many
                seconds.

        Returns:
            The words of the command, to which those of the program are appended; and the
            environment variable that holds the number of the node there.

        Raises:
            EpicError: This is no cluster job, or the scheduler cannot start programs on its nodes.
        """
        raise EpicError(
            f"train.nodes is {count}, but this is no job of a cluster that is known here; expected "
            f"one of {count} nodes, with `--profile profiles/vsc`; set `train: nodes: 1` to train "
            "on this machine"
        )


@functools.cache
def known_schedulers() -> dict[str, type[Scheduler]]:
    """Return the classes of schedulers by name: `Scheduler`, for no cluster, and those of parts.

    A part has a scheduler if it is a package with a module `scheduler`, whose `HERE` is the class.
    """
    schedulers = [Scheduler]
    for package in pkgutil.iter_modules(epic100.__path__, "epic100."):
        module = f"{package.name}.scheduler"
        if package.ispkg and module != __name__ and importlib.util.find_spec(module):
            schedulers.append(importlib.import_module(module).HERE)
    return {scheduler.name: scheduler for scheduler in schedulers}


def here(environment: Mapping[str, str] = os.environ) -> Scheduler:
    """Return the scheduler in whose job a process with these variables runs, or `Scheduler`."""
    no_scheduler, *others = [scheduler() for scheduler in known_schedulers().values()]
    return next(
        (scheduler for scheduler in others if scheduler.granted(environment) != Grant()),
        no_scheduler,
    )


# The scheduler that `take_charge` noted; empty before.
_in_charge: list[Scheduler] = []


def take_charge(scheduler: Scheduler) -> None:
    """Note that this scheduler runs the jobs of this process's run; `in_charge` returns it."""
    _in_charge[:] = [scheduler]


def in_charge() -> Scheduler:
    """Return the scheduler that runs the jobs of this process's run, as `take_charge` noted it."""
    return _in_charge[0] if _in_charge else Scheduler()
