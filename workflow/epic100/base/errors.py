"""The errors that users see."""

import os
import sys
import traceback

from epic100.base.names import printable

# The maximum number of characters of a message. A longer one is cut.
LONGEST = 10_000


def import_error(error: ImportError) -> str:
    """Describe in one line a package that is missing or broken, and what to do.

    Args:
        error: The error, as it was caught.
    """
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{error.name}: not installed for {sys.executable}; expected the Python of `make "
            "install`: .venv/bin/epic100, or activate the environment"
        )
    *_, last = traceback.extract_tb(error.__traceback__)
    return (
        f"{last.filename}: cannot be imported by {sys.executable}; PYTHONPATH, as modules of a "
        f"cluster set it, is {os.environ.get('PYTHONPATH', '')!r}: unset it, or `module purge`"
    )


class EpicError(ValueError):
    """Bad input. One message names the file, line or id, what was expected and what to do.

    The message may repeat text of a file, so it is made safe for a terminal, and cut.

    Message and class survive pickling, and torch's data loader.
    """

    def __init__(self, message: object) -> None:
        """Store the message as one that is safe to print, and cut it if it is very long.

        Args:
            message: The message. If a worker of torch's data loader has raised the error, the data
                loader raises it again with the worker's complete traceback as its message.
        """
        # In a worker's traceback, the message stands after the name of the class. Any other text
        # has no such prefix and is taken as it is.
        class_prefix = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        text = str(message).rpartition(class_prefix)[2].strip()
        super().__init__(printable(text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."))


class DiskError(EpicError):
    """The disk failed or is full. The data that was read or written may be fine."""


class BrokenFile(EpicError):
    """A file that can be read but has the wrong content: it is cut, altered, or of another type."""
