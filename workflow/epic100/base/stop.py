"""Signals that ask a training to stop: recorded, obeyed after the iteration, ignored by workers.

A cluster sends SIGUSR1 before a time limit, if asked to; it and torchrun send SIGTERM at the end;
Ctrl-C sends SIGINT. All three may reach all of the process group.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from epic100.base.errors import EpicError
from epic100.base.machine import wait_for_signal_of

# The end of messages about a stop.
GO_ON = "the same command goes on from what is done"
SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


@contextmanager
def handling(
    numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Set a handler for signals within a block; then put the old handlers back.

    Only the main thread can set handlers. In other threads this does nothing.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    old_handlers = {number: signal.signal(number, handler) for number in numbers if is_main_thread}
    try:
        yield
    finally:
        for number, old_handler in old_handlers.items():
            signal.signal(number, old_handler)


class Stopped(EpicError):
    """A signal asked to stop; what is done is saved."""


# Names of the signals that came, if this process ends because of them.
_stopping: list[str] = []


@contextmanager
def until_the_last_line() -> Iterator[None]:
    """Turn the first stop signal in the last block of a process into an error with a message.

    The block is all the work of the process. The first SIGTERM or SIGUSR1 ends it with `Stopped`,
    unless a training in the block handles signals itself (`StopSignals.noting`). Later ones are
    ignored: Snakemake and a cluster send several, and a process that is ending would die without
    its message. For the same reason the old handlers are not put back after the block.

    Raises:
        Stopped: A signal came.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        """Raise Stopped for the first signal, and ignore later ones."""
        if not _stopping:
            _stopping.append(signal.Signals(number).name)
            raise Stopped(f"{_stopping[0]} came: stopped; {GO_ON}")

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop)
    yield


class StopSignals:
    """Store the name of the first stop signal, within the block `noting`, so that work can finish.

    A second SIGINT raises KeyboardInterrupt.

    Attributes:
        requested: The name of the signal, e.g. SIGUSR1; None if none came.
    """

    def __init__(self) -> None:
        self.requested: str | None = None

    def noting(self) -> AbstractContextManager[None]:
        """Return a block in which the signals are stored in `requested`."""
        return handling(SIGNALS, self._store)

    def _store(self, number: int, frame: FrameType | None) -> None:
        """Store the signal if it is the first one; the process then counts as ending."""
        if number == signal.SIGINT and self.requested == "SIGINT":
            raise KeyboardInterrupt
        self.requested = self.requested or signal.Signals(number).name
        _stopping.append(self.requested)


@contextmanager
def ended_workers_are_errors() -> Iterator[None]:
    """Turn torch's error about a killed loader worker into an EpicError that says what to do.

    torch raises a RuntimeError while the loop waits for a batch, or from its signal handler in the
    middle of a training step. So the `with` block must be around the complete loop.

    Raises:
        EpicError: A worker was killed, most often by the system for lack of memory.
    """
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if not text.startswith("DataLoader worker"):
            raise
        raise EpicError(
            f"a process that reads clips was ended from outside: out of memory, or by hand "
            f"({text.rstrip('.')}); give the job more memory or fewer `workers`, then run again: "
            "what is finished is kept"
        ) from error


def end_workers(loader: DataLoader) -> None:
    """End the persistent workers of a loader now.

    The garbage collector would first take their queues apart and then wait for each worker for 5 s.
    """
    workers: Any = loader._iterator
    if workers is not None:
        workers._shutdown_workers()
        loader._iterator = None


def ignore_signals(worker: int) -> None:
    """Ignore stop signals in a loader's worker, so that it can finish the iteration.

    Such a signal may go to all of the process group. The worker ends at SIGTERM of its parent, or
    when its parent dies.
    """
    for number in {*SIGNALS} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    # If SIGTERM were ignored, Python would wait forever at exit: it sends SIGTERM to its children
    # and joins them. Only sigwaitinfo, not a handler, reports who sent a signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_at_parents_signal, args=(os.getppid(),), daemon=True).start()


def _end_at_parents_signal(parent: int) -> None:
    """Wait for the parent's SIGTERM, then end this process at once."""
    wait_for_signal_of(parent, signal.SIGTERM)
    os._exit(0)
