"""The table of packets in a frame index: its columns, and how it is read from a file."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

# These are the least and the largest time of a packet. Differences of times fit into 64 bits.
TIMES = (-(2**62), 2**62 - 1)
# In this order, only one byte of a row is lost to alignment.
_FIELDS = [
    # The coded bytes begin at this byte of the file.
    ("offset", "<i8"),
    # Times of presentation and of decoding are in units of the stream's time base.
    ("pts", "<i8"),
    ("dts", "<i8"),
    # The packet has this many coded bytes.
    ("size", "<i4"),
    # For a key frame it is the CRC-32 of its bytes, else 0.
    ("crc", "<u4"),
    # For a key frame it is the number of its parameter sets in `VideoIndex.sets`, else -1.
    ("sets", "<i2"),
    # The value is 0 if an edit list hides the picture, else 1.
    ("shown", "<i1"),
    # Row i has the number of the packet with frame i; rows after the last frame have -1.
    ("frame", "<i4"),
]
PACKET = np.dtype(_FIELDS, align=True)  # NumPy fills aligned columns twice as fast.
COLUMNS = [name for name, _ in _FIELDS]
RECORDED = COLUMNS[:-1]  # `frame` follows from the others.


def unpacked(arrays: Mapping[str, npt.ArrayLike], prefixes: Sequence[str]) -> np.ndarray:
    """Join the packets of several frame indexes into one table.

    Args:
        arrays: The columns of all indexes, by name.
        prefixes: Start of the names of the columns for each index, such as `P01_01/`.

    Returns:
        `PACKET` [P]: the packets of the first index, then those of the second, and so on.

    Raises:
        ValueError: A column has another length or no integers.
        KeyError: A column is missing.
    """
    counts = [len(np.asarray(arrays[f"{prefix}sets"])) for prefix in prefixes]
    packets = np.empty(sum(counts), PACKET)
    # The slices share the memory of the table, so they fill it. `split` returns one more slice, for
    # the packets after the last index, which is empty.
    for prefix, rows in zip(prefixes, np.split(packets, np.cumsum(counts)), strict=False):
        for name in COLUMNS:
            column = np.asarray(arrays[f"{prefix}{name}"])
            if column.shape != rows.shape or column.dtype.kind not in "iu":
                raise ValueError(f"{column.shape} {column.dtype} values for {len(rows)} packets")
            rows[name] = column
    return packets
