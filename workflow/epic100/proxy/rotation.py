"""Copy the rotation that a container asks a player to apply.

`VideoReader` does not apply it, but players and other readers do.
"""

import struct
from pathlib import Path

from epic100.video.mp4_boxes import top_boxes

# Offset in the track header box, after its name, by version (ISO 14496-12, section 8.3.2).
_MATRIX_AT = {0: 40, 1: 52}


def copy_rotation(matrix: bytes, path: Path) -> None:
    """Write FFmpeg's display `matrix` (nine int32) into an MP4 file with one track."""
    start, stop = next((a, b) for name, a, b in top_boxes(path) if name == "moov")
    with path.open("r+b") as file:
        file.seek(start)
        header = file.read(stop - start).index(b"tkhd") + 4
        file.seek(start + header)
        version = file.read(1)[0]
        file.seek(start + header + _MATRIX_AT[version])
        file.write(struct.pack(">9i", *struct.unpack("=9i", matrix)))
