"""What the library reports, line by line."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
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
