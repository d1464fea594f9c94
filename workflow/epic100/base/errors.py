"""The errors that users see."""


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
