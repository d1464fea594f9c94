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

ASK_SECONDS = 60.0


class NoAnswerError(RuntimeError):
    """A command of the scheduler failed or timed out; the text is its own message.

    Args:
        message: This text.
        never: Whether it would fail again: there is no such program or cluster here.
    """

    def __init__(self, message: str, never: bool = False):
        super().__init__(message)
        self.never = never


@dataclass(frozen=True)
class ClusterJob:
    """A job that has not ended.

    Args:
        about: Its rule and wildcards.
        id: The scheduler's id.
        where: Its cluster and partition, or queue.
        state: In the scheduler's word.
        pending: Whether it has not started yet.
        elapsed: How long it runs.
        user: Who submitted it.
        reason: Why it is pending, in words for the user.
        cluster: The name of its cluster, or "".
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
        return (
            f"{self.about}: job {self.id} of {self.user} on {self.where}, {self.state.lower()}, "
            f"{self.elapsed}"
        )


@dataclass(frozen=True)
class Grant:
    """What a process was granted.

    Args:
        job: The job that it runs in, as `id@cluster`; "" for none.
        gpus: Evidence that the job has GPUs, as text for messages, or None.
    """

    job: str = ""
    gpus: str | None = None


class Scheduler:
    """No scheduler: all runs on this machine. Others override what they know better.

    Args:
        facts: By what it finds the jobs of a run; plain values, which a run's record keeps.
    """

    name: ClassVar[str] = "none"

    def __init__(self, **facts: Any):
        self.facts = facts

    @classmethod
    def look_up_site(cls, name: str) -> None:
        """Look up a site that the user named. Raises EpicError if it is not among those known."""

    def jobs(self, seconds: float = ASK_SECONDS) -> list[ClusterJob]:
        """The jobs of the run that have not ended.

        Raises:
            NoAnswerError: It does not answer within so many seconds.
        """
        return []

    def cancel(self, jobs: Iterable[ClusterJob]) -> None:
        """Cancel these jobs.

        Raises:
            EpicError: It refuses.
        """

    def granted(self, environment: Mapping[str, str] = os.environ) -> Grant:
        """What a process with these variables was granted."""
        return Grant()

    def on_nodes(self, count: int, wait: float) -> tuple[list[str], str]:
        """How a program is started on each of the nodes of this job.

        Args:
            count: Nodes.
            wait: Seconds after which all are ended once one has ended.

        Returns:
            The command that the program follows, and the variable with the number of a node there.

        Raises:
            EpicError: This is no job, or its scheduler cannot.
        """
        raise EpicError(
            f"train.nodes is {count}, but this is no job of a cluster that is known here; expected "
            f"one of {count} nodes, with `--profile profiles/vsc`; set `train: nodes: 1` to train "
            "on this machine"
        )


@functools.cache
def known() -> dict[str, type[Scheduler]]:
    """The schedulers by name."""
    schedulers = [Scheduler]
    for package in pkgutil.iter_modules(epic100.__path__, "epic100."):
        module = f"{package.name}.scheduler"
        if package.ispkg and module != __name__ and importlib.util.find_spec(module):
            schedulers.append(importlib.import_module(module).HERE)
    return {scheduler.name: scheduler for scheduler in schedulers}


def here(environment: Mapping[str, str] = os.environ) -> Scheduler:
    """The scheduler in whose job a process with these variables runs."""
    schedulers = [scheduler() for scheduler in known().values()]
    return next(
        (scheduler for scheduler in schedulers if scheduler.granted(environment) != Grant()),
        schedulers[0],
    )


_in_charge: list[Scheduler] = []


def take_charge(scheduler: Scheduler) -> None:
    """Note that this scheduler runs the jobs of the run of this process."""
    _in_charge[:] = [scheduler]


def in_charge() -> Scheduler:
    """The scheduler that runs the jobs of the run of this process."""
    return _in_charge[0] if _in_charge else Scheduler()
