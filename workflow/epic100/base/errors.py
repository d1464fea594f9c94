"""The errors that users see, and how an error passes from one process to another."""

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


def from_last_line(line: str) -> EpicError | None:
    """The error that another process ended with, or None if its last line is not an error."""
    return EpicError(line.removeprefix(SIGN)) if line.startswith(SIGN) else None
