"""Limits and forks of this process, and its log and terminal. No test is here."""

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
