"""The one exception that users meet, and how it comes from one process to another."""

SIGN = "error: "  # begins the last line of a process that ends with an EpicError


class EpicError(ValueError):
    """Bad input, told in one message: file, line or id, what was expected, what to do.

    It keeps its message and class when it is pickled, and through torch's data loader, which makes
    an error of the same class out of the text of a worker's whole traceback.
    """

    def __init__(self, message: object) -> None:
        own = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(str(message).rpartition(own)[2].strip())


class DiskError(EpicError):
    """The disk fails or is full: no property of what was read or should be written."""


def last_line(error: EpicError) -> str:
    """The line that a process ends with on this error, for people and for `from_last_line`."""
    return SIGN + str(error)


def from_last_line(line: str) -> EpicError | None:
    """The error that another process ended with, or None where its last line is another one."""
    return EpicError(line.removeprefix(SIGN)) if line.startswith(SIGN) else None
