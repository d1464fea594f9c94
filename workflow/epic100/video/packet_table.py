"""The table of packets in a frame index: its columns."""

import numpy as np

# In this order, only one byte of a row is lost to alignment.
_FIELDS = [
    # The coded bytes begin at this byte of the file.
    ("offset", "<i8"),
    # The time of presentation is in units of the stream's time base.
    ("pts", "<i8"),
    # The number of coded bytes of the packet.
    ("size", "<i4"),
    # For a key frame it is the CRC-32 of its bytes, else 0.
    ("crc", "<u4"),
    # The value is 1 if decoding can begin at the packet, else 0.
    ("key", "<i1"),
    # The value is 0 if an edit list hides the frame, else 1.
    ("shown", "<i1"),
    # Row i has the number of the packet with frame i; rows after the last frame have -1.
    ("frame", "<i4"),
]
PACKET = np.dtype(_FIELDS, align=True)  # NumPy fills aligned columns twice as fast.
COLUMNS = [name for name, _ in _FIELDS]
RECORDED = COLUMNS[:-1]  # `frame` follows from the others.
