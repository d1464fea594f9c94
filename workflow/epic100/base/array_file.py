"""Files of arrays (`.npz`), which others may have written: one way to open them."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from epic100.base.disk import reading
from epic100.base.errors import BrokenFile, DiskError

# Packed arrays may unpack to so many bytes. The index of an hour of video has about 4 MiB.
LARGEST = 2**29


@contextmanager
def opened_arrays(
    path: str | os.PathLike, form: str, what: str, remedy: str
) -> Iterator[Mapping[str, np.ndarray]]:
    """Open a file of arrays. What the block raises counts as a fault of the file.

    Args:
        path: The file.
        form: What its array `format` must say.
        what: What was expected, for the error: "not {what} (why); {remedy}".
        remedy: What to do, for the error.

    Yields:
        The arrays by name, each read when it is asked for.

    Raises:
        DiskError: The disk fails.
        BrokenFile: It is no such file, is not whole, or a packed one of more than 512 MiB.
    """
    try:
        with reading(path) as file:
            # This read shows that a disk fails, which zipfile might not notice.
            file.peek()
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > max(LARGEST, 2 * file.seek(0, os.SEEK_END)):
                raise ValueError(f"{unpacked / 2**20:.0f} MiB unpacked, at most {LARGEST >> 20}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                if str(arrays["format"]) != form:
                    raise ValueError(f"of another version than {form!r}")
                yield arrays
    except DiskError:
        raise
    except Exception as error:
        # For a wrong file, zipfile, numpy and the block raise many kinds of errors. A message may
        # repeat a name of any length from the zip, or hold characters that cannot be encoded.
        message = " ".join(str(error).split())[:200].encode("ascii", "backslashreplace").decode()
        raise BrokenFile(
            f"{path}: not {what} ({type(error).__name__}: {message}); {remedy}"
        ) from error
