"""Processes that read clips for torch's data loader, and what their end from outside means."""

from collections.abc import Iterator
from contextlib import contextmanager

from epic100.base.errors import EpicError


@contextmanager
def ended_workers_are_errors() -> Iterator[None]:
    """Within the block, a worker of a data loader that is killed is an error for the user.

    torch raises a RuntimeError then, not only where a batch is waited for: it may come from its
    signal handler, in the middle of a step. So the block is around the whole loop.

    Raises:
        EpicError: A worker was killed, most often by the system for want of memory.
    """
    try:
        yield
    except RuntimeError as error:
        words = " ".join(str(error).split())
        if not words.startswith("DataLoader worker"):
            raise
        raise EpicError(
            f"a process that reads clips was ended from outside: out of memory, or by hand "
            f"({words.rstrip('.')}); give the job more memory or fewer `workers`, then run again: "
            "what is finished is kept"
        ) from error
