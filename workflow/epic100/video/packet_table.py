"""The table of packets in a frame index: its columns, and how it is read from a file."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

# Times of packets lie between these two, so that their differences fit into 64 bits.
TIMES = (-(2**62), 2**62 - 1)
# In this order, only one byte of a row is lost to alignment.
_FIELDS = [
    # Here the coded bytes begin in the file.
    ("offset", "<i8"),
    # Times of presentation and of decoding are in units of the stream's time base.
    ("pts", "<i8"),
    ("dts", "<i8"),
    # It counts the coded bytes.
    ("size", "<i4"),
    # For a key frame it is the CRC-32 of its bytes, else 0.
    ("crc", "<u4"),
    # For a key frame it says which parameter sets are in force, else it is -1.
    ("sets", "<i2"),
    # It is 0 if an edit list hides the picture, else 1.
    ("shown", "<i1"),
    # Row i names the packet that holds frame i; rows beyond the last frame have -1.
    ("frame", "<i4"),
]
PACKET = np.dtype(_FIELDS, align=True)  # NumPy fills aligned columns twice as fast.
COLUMNS = [name for name, _ in _FIELDS]
RECORDED = COLUMNS[:-1]  # `frame` follows from the others.


def unpacked(arrays: Mapping[str, npt.ArrayLike], prefixes: Sequence[str]) -> np.ndarray:
    """Join the packets of several frame indexes into one table.

    Args:
        arrays: The columns of all indexes, by name.
        prefixes: Start of the columns' names for each index, such as `P01_01/`.

    Returns:
        `PACKET` [P]: the packets of the first index, then those of the second, and so on.

    Raises:
        ValueError: `to_arrays` cannot have written these arrays.
        KeyError: A column is missing.
    """
    counts = [len(np.asarray(arrays[f"{prefix}sets"])) for prefix in prefixes]
    packets = np.empty(sum(counts), PACKET)
    # The slices share the memory of the table, so it is filled through them. One more slice than
    # there are indexes is at the end, and is empty.
    for prefix, rows in zip(prefixes, np.split(packets, np.cumsum(counts)), strict=False):
        for name in COLUMNS:
            column = np.asarray(arrays[f"{prefix}{name}"])
            if column.shape != rows.shape or column.dtype.kind not in "iu":
                raise ValueError(f"{column.shape} {column.dtype} values for {len(rows)} packets")
            rows[name] = column
    return packets
