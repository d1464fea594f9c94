"""The errors that users see, and how an error passes from one process to another."""

import io
import os
import traceback
from pathlib import Path

SIGN = "error: "  # prefix of the last line of a process that ends with an EpicError


class EpicError(ValueError):
    """Bad input. One message names the file, line or id, what was expected and what to do.

    Message and class survive pickling. They also survive torch's data loader, which builds an error
    of the same class from the full traceback text of a worker.
    """

    def __init__(self, message: object) -> None:
        own = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(str(message).rpartition(own)[2].strip())


class DiskError(EpicError):
    """The disk failed or is full. The data read or written is not at fault."""


def last_line(error: EpicError) -> str:
    """The last line that a process prints for this error. `from_last_line` parses it."""
    return SIGN + str(error)


def file_of(error: OSError) -> str:
    """The name of the file that an error of the system is about, or "" if it is not known.

    The system gives no name for a failed read or close. Then it is the file that was open in the
    innermost call that has one, or else a path there.
    """
    if error.filename is not None:
        return os.fsdecode(error.filename)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    values = [value for frame in reversed(frames) for value in frame.f_locals.values()]
    names = [getattr(value, "name", None) for value in values if isinstance(value, io.IOBase)]
    names += [str(value) for value in values if isinstance(value, Path)]
    known = (name for name in names if isinstance(name, str) and name[:1] != "<")  # not <stdout>
    return next(known, "")


def from_last_line(line: str) -> EpicError | None:
    """The error that another process ended with, or None if its last line is not an error."""
    return EpicError(line.removeprefix(SIGN)) if line.startswith(SIGN) else None
