"""Read archives so that a failing disk is never mistaken for a damaged archive.

zipfile takes a failed read for the end of the file, and then reports that the file is no archive.
"""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from epic100.base.errors import DiskError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@contextmanager
def reading(path: str | os.PathLike) -> "Iterator[io.BufferedReader[_Raw]]":
    """Open a file, and remember a read that failed until the file is closed.

    Raises:
        FileNotFoundError: There is no such file.
        DiskError: The file cannot be opened, or the block failed after a read that failed.
    """
    raw = None
    try:
        with _Raw(path) as raw, io.BufferedReader(raw) as file:
            yield file
    except FileNotFoundError:
        raise
    except Exception as error:
        refused = (raw and raw.refused) or error
        if isinstance(refused, OSError) and refused.errno not in (None, errno.EINVAL):  # a bad seek
            raise DiskError(
                f"{path}: cannot be read: {refused.strerror}; check the disk and the permissions, "
                "then run again"
            ) from error
        raise


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
