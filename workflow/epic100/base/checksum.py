"""Checksums of files, written `md5:...`, `sha256:...` or `git:...` (a git blob id)."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from epic100.base.disk import WatchedFile
from epic100.base.errors import EpicError

PIECE = 1 << 20  # bytes that are read at once
DIGITS = {"md5": 32, "sha256": 64, "git": 40}


@dataclass(frozen=True)
class Checksum:
    """A checksum: `kind` is a key of `DIGITS`, `value` is lower-case hex."""

    kind: str
    value: str

    @classmethod
    def parse(cls, text: str, where: str) -> "Checksum":
        """Read `kind:hex`.

        Args:
            text: The text to read.
            where: Start of the error message.

        Raises:
            EpicError: `text` has another form.
        """
        kind, _, value = text.strip().lower().partition(":")
        if len(value) != DIGITS.get(kind) or not re.fullmatch("[0-9a-f]+", value):
            raise EpicError(
                f"{where}: checksum is {text!r}; expected md5, sha256 or git, a colon and "
                f"{', '.join(map(str, DIGITS.values()))} hexadecimal digits"
            )
        return cls(kind, value)

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def digest(
    path: str | os.PathLike, kind: str, watch: Callable[[int], None] | None = None
) -> Checksum:
    """Compute the checksum of a file.

    Args:
        path: The file.
        kind: A key of `DIGITS`. `git` is git's blob id: SHA-1 over `blob {size}`, a zero byte and
            the bytes.
        watch: Called with the size in bytes of every piece that was read.

    Raises:
        OSError: The file cannot be opened, for a reason of its own.
        DiskError: The disk fails, also when it is tried again.
    """
    hasher, done = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False), 0
    with WatchedFile(path) as file:
        if kind == "git":
            hasher.update(b"blob %d\0" % file.size)
        while piece := file.read_at(done, PIECE):
            hasher.update(piece)
            done += len(piece)
            if watch:
                watch(len(piece))
    return Checksum(kind, hasher.hexdigest())
