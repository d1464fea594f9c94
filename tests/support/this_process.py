"""Limits and forks of this process, what it writes and reports. No test in here."""

import contextlib
import logging
import multiprocessing
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

# A fork is safe although torch is imported: with one thread it has started no others.
fork = multiprocessing.get_context("fork")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file that is written grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def no_real_time() -> Iterator[None]:
    """SVT-AV1, run by root, gives this process a real-time priority for good: it is taken back."""
    try:
        yield
    finally:
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def records_of(module: str) -> Iterator[list[str]]:
    """The lines that `module` reports while this is open."""
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
    """`stream` writes to it, `shown()` closes it and returns all that was written."""

    def __init__(self):
        self._ours, theirs = os.openpty()
        self.stream = os.fdopen(theirs, "w")

    def shown(self) -> str:
        self.stream.close()
        written = b""
        # To read at the end of a terminal is an error.
        with contextlib.suppress(OSError):
            while part := os.read(self._ours, 65536):
                written += part
        os.close(self._ours)
        return written.decode()
