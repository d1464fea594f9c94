"""Copy the rotation that a container asks a player to apply.

`VideoReader` does not apply it, but players and other readers do.
"""

import os
import struct
from pathlib import Path

from epic100.video.containers import Box, box_in

# Offset in the track header box, by version (ISO 14496-12, section 8.3.2).
_MATRIX_AT = {0: 40, 1: 52}


def copy_rotation(matrix: bytes, path: Path) -> None:
    """Write FFmpeg's display `matrix` (nine int32) into an MP4 file with one track."""
    with path.open("r+b", buffering=0) as file:

        def read_at(at: int, count: int) -> bytes:
            return os.pread(file.fileno(), count, at)

        whole = Box("", 0, 0, path.stat().st_size)
        header = box_in(read_at, whole, "moov", "trak", "tkhd").content
        file.seek(header + _MATRIX_AT[read_at(header, 1)[0]])
        file.write(struct.pack(">9i", *struct.unpack("=9i", matrix)))
