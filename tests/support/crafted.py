"""Files of tensors and zips with valid checksums, of any contents. No test is here."""

import io
import zipfile
from typing import Any

import torch


class Unpickled:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any):
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple:
        """Return what pickle writes, and calls when it reads."""
        return self.function, self.arguments


def saved(content: Any, **options: bool) -> bytes:
    """Return the bytes of the file that torch.save writes."""
    torch.save(content, buffer := io.BytesIO(), **options)
    return buffer.getvalue()


def members_of(data: bytes) -> list[tuple[str, bytes]]:
    """Read the names and contents of the members of a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(member.filename, archive.read(member)) for member in archive.infolist()]


def zip_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Make a zip of members with these names and contents, with valid checksums."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()
