"""The error of a frame that cannot be read."""

from epic100.base.errors import EpicError

ANOTHER_FILE = "is not the file that was scanned; scan it again"


class FrameError(EpicError):
    """A requested frame cannot be read."""
