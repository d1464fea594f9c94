"""Failures of the disk or the network behind it, told from damage of a file."""

import errno
import zipfile
import zlib

from epic100.base.errors import DiskError

PAUSES = (0.2, 1.0, 5.0)  # seconds; a file server that is restarted is back in a minute or never
OF_THE_DISK = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.ENOLINK, errno.ESHUTDOWN,
}  # fmt: skip


def disk_failure(error: BaseException) -> str | None:
    """What the disk failed with, where that is behind an error; None where it is not.

    An index that is no whole archive counts: `scan` writes it whole.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in OF_THE_DISK:
            return str(found)
        if isinstance(found, (DiskError, zipfile.BadZipFile, zlib.error)):
            return f"{type(found).__name__}: {found}"
        found = found.__cause__
    return None
