"""Read archives so that a failing disk is never mistaken for a damaged archive.

zipfile takes a failed read for the end of the file, and then reports that the file is no archive.
"""

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class DiskFile(io.BufferedReader):
    """A file open for reading that remembers a failed read.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike):
        self._raw = _Raw(path)
        super().__init__(self._raw)

    @property
    def refused(self) -> OSError | None:
        """The error of the last read that failed, whatever became of it; None if none failed."""
        return self._raw.refused


class _Raw(io.FileIO):
    refused: OSError | None = None

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.refused = error
            raise

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            self.refused = error
            raise
