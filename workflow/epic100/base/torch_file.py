"""Tensor files of this workflow: they are written atomically and checked for damage when read.

`torch.save` writes a zip with a pickle of the structure and one member per storage.
`torch.load(weights_only=True)` runs no code of the file, but checks no checksum: here they are
checked first. `untrusted_tensors` reads the files of others.
"""

import io
import os
import re
import zipfile
from typing import IO, Any

import torch

from epic100.base.atomic import atomic_path
from epic100.base.disk import reading
from epic100.base.errors import BrokenFile, DiskError, EpicError

NEEDS_CODE = "which only running the file's code loads"
# The first bytes of a zip. Torch tells its formats apart by these bytes alone.
ZIP = b"PK\x03\x04"
# A download may leave one of these in the file's place. A page may begin with blanks, a byte order
# mark or a comment.
GIT_LFS = b"version https://git-lfs"
HTML = re.compile(rb"[\s\xef\xbb\xbf]*<.*html", re.IGNORECASE | re.DOTALL)


class TensorFileError(Exception):
    """What is wrong in a tensor file, in words for users, without the path."""


def write_tensors(content: Any, path: str | os.PathLike) -> None:
    """Write tensors and plain Python objects to `path` atomically."""
    # Given a path, `torch.save` would write its (temporary) name into the file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_tensors(path: str | os.PathLike, what: str, remedy: str, *, mapped: bool = False) -> Any:
    """Read a tensor file of this workflow to the CPU.

    Args:
        path: The file.
        what: What was expected, for the error: "not {what} (why); {remedy}".
        remedy: What to do, for the error.
        mapped: Leave the values on the disk until they are used.

    Returns:
        What was saved.

    Raises:
        BrokenFile: The file is truncated, altered, not a tensor file, or contains code.
        EpicError: The file is missing, or cannot be read because of the disk (DiskError) or too
            little memory. The file itself may be fine.
    """
    try:
        with reading(path) as file:
            require_complete(file)
            source = os.fspath(path) if mapped else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except DiskError:
        raise
    except FileNotFoundError as error:
        raise EpicError(f"{path}: no such file; {remedy}") from error
    except Exception as error:  # Torch and zipfile raise many types of errors for a wrong file.
        if lacks_memory(error):
            size = os.path.getsize(path) / 2**20
            raise EpicError(
                f"{path}: cannot be read: too little memory for its {size:.1f} MiB; free some, or "
                "ask for more"
            ) from error
        raise BrokenFile(f"{path}: not {what} ({reason(error)}); {remedy}") from error


def require_complete(file: IO[bytes]) -> bool:
    """Check that a file of torch.save is neither cut short nor altered; then go to its start.

    All readers of tensor files call this first.

    Returns:
        Whether the file is a zip. Before torch 1.6, files had another form without checksums, so
        they are not checked.

    Raises:
        TensorFileError: The file is cut short or altered, or something else is in its place.
    """
    beginning = file.read(1024)
    if beginning.startswith(GIT_LFS):
        raise TensorFileError("a git-lfs pointer, not the file: run `git lfs pull`")
    if HTML.match(beginning):
        raise TensorFileError(
            "a web page (HTML), not the file: sign in there, and download it again"
        )
    is_zip = beginning.startswith(ZIP)
    if is_zip:
        if not zipfile.is_zipfile(file):
            raise TensorFileError("cut short, its end is missing")
        with zipfile.ZipFile(file) as archive:
            if not any(name.endswith("/data.pkl") for name in archive.namelist()):
                raise TensorFileError("a zip, but not one of torch.save")
            if damaged := archive.testzip():
                raise TensorFileError(f"the checksum of {damaged} does not fit")
    file.seek(0)
    return is_zip


def lacks_memory(error: Exception) -> bool:
    """Whether an error means too little memory; torch raises a RuntimeError with its own texts."""
    text = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in text or "not enough mem" in text


def reason(error: Exception) -> str:
    """Describe why torch cannot load a file, as a short clause for messages."""
    if isinstance(error, TensorFileError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return (
            f"holds objects of the module {error.name}, which is not installed here; save it once "
            "more where it is, with its `state_dict` and `meta` alone"
        )
    if match := re.search(r"GLOBAL (\S+)", str(error)):
        return f"holds {match[1]} besides tensors, {NEEDS_CODE}"
    return type(error).__name__
