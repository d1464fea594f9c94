"""Limits and forks of this process, its log and terminal, and work in a process of its own.

No test is here.
"""

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest import mock

from epic100.base.errors import EpicError

# A fork is safe although torch is imported: with one thread it has started no others.
fork = multiprocessing.get_context("fork")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file that is written during a block grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def records_of(module: str) -> Iterator[list[str]]:
    """Collect the lines that `module` logs during a block."""
    lines: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        lines.append(record.getMessage())
        return True

    logger = logging.getLogger(module)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(note)
    try:
        yield lines
    finally:
        logger.removeFilter(note)
        logger.setLevel(level)


class Terminal:
    """A terminal without a window.

    Attributes:
        stream: The file that a program writes to.
    """

    def __init__(self):
        """Open the terminal."""
        self._ours, theirs = os.openpty()
        self.stream = os.fdopen(theirs, "w")

    def shown(self) -> str:
        """Close the terminal, and return all that was written to it."""
        self.stream.close()
        written = b""
        # To read at the end of a terminal is an error.
        with contextlib.suppress(OSError):
            while data := os.read(self._ours, 65536):
                written += data
        os.close(self._ours)
        return written.decode()


# A measured process may take this address space, torch's libraries included.
MAX_BYTES = 5 * 2**30


def apart(function, *arguments, seconds: float = 500):
    """Call a function in another process, and return its result.

    Raises:
        TimeoutError: It takes longer than `seconds`.
    """
    # What imports torch is imported only by tests that do.
    from support.small_runs import processes

    with ProcessPoolExecutor(1, mp_context=processes) as pool:
        return pool.submit(function, *arguments).result(seconds)


def measured(function, *arguments):
    """Call a function in another process, and measure its memory.

    Returns:
        The result of the function or its EpicError; the KiB by which its process grew; the KiB of
        the largest process that it started.
    """
    return apart(_measure, function, arguments)


def _measure(function, arguments):
    """Call a function in this process, and measure its memory, as `measured` returns it."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        result = function(*arguments)
    except EpicError as error:
        result = error
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return result, growth, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def kill_after_a_shard(work: Callable, *arguments, **keywords) -> None:
    """Call `work` in a process that is killed as soon as it has written one shard."""
    from epic100.prediction.shards import PredictionJob

    write = PredictionJob.write_shard

    def write_and_die(*shard) -> None:
        write(*shard)
        os.kill(os.getpid(), signal.SIGKILL)

    process = fork.Process(target=work, args=arguments, kwargs=keywords)
    with mock.patch.object(PredictionJob, "write_shard", write_and_die):
        process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
