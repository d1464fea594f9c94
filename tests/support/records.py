"""What the library reports, line by line."""

import contextlib
import logging
from collections.abc import Iterator


class _List(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def records_of(module: str) -> Iterator[list[str]]:
    """The lines that `module` reports while this is open."""
    logger, handler = logging.getLogger(module), _List()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
