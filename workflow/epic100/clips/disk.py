"""Tells failures of the disk, or of the network behind it, apart from damaged files."""

import errno
import zipfile
import zlib

from epic100.base.errors import DiskError

PAUSES = (0.2, 1.0, 5.0)  # seconds; longer outages are not waited for
OF_THE_DISK = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.ENOLINK, errno.ESHUTDOWN,
}  # fmt: skip


def disk_failure(error: BaseException) -> str | None:
    """Return the disk failure that caused an error, or None if the disk is not the cause.

    A damaged index archive counts as a disk failure, because `scan` writes indexes atomically.

    Args:
        error: The error. Its chain of causes is searched.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in OF_THE_DISK:
            return str(found)
        if isinstance(found, (DiskError, zipfile.BadZipFile, zlib.error)):
            return f"{type(found).__name__}: {found}"
        found = found.__cause__
    return None
