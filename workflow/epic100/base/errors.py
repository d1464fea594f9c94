"""The errors that users see."""

from epic100.base.names import printable

# The most characters of a message. A longer one is cut.
LONGEST = 10_000


class EpicError(ValueError):
    """Bad input. One message names the file, line or id, what was expected and what to do.

    The message may repeat text of a file, so it is made safe for a terminal, and cut.

    Message and class survive pickling. They also survive torch's data loader, which builds an error
    of the same class from the full traceback text of a worker.
    """

    def __init__(self, message: object) -> None:
        """Keep the message, which may be the traceback text of a worker."""
        # In a worker's traceback text, the message stands after the class. Any other text has no
        # such prefix and is taken whole.
        class_prefix = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        text = str(message).rpartition(class_prefix)[2].strip()
        super().__init__(printable(text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."))


class DiskError(EpicError):
    """The disk failed or is full. The data read or written is not at fault."""


class BrokenFile(EpicError):
    """A file that can be read but has the wrong content: it is cut, altered, or of another kind."""
