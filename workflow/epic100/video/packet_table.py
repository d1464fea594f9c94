"""The packets of a frame index: a table in memory, and its columns in a file."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

TIMES = (-(2**62), 2**62 - 1)  # their differences fit into 64 bits
_FIELDS = [  # in an order that leaves no gaps
    ("offset", "<i8"),  # where the coded bytes begin in the file
    ("pts", "<i8"),  # time of presentation, in units of the stream's time base
    ("dts", "<i8"),  # time of decoding, in the same units
    ("size", "<i4"),  # number of coded bytes
    ("crc", "<u4"),  # of a key frame: CRC-32 of its bytes; else 0
    ("sets", "<i2"),  # of a key frame: which parameter sets are in force; else -1
    ("shown", "<i1"),  # 0 if an edit list hides it, else 1
    ("frame", "<i4"),  # in row i: the packet that holds frame i; -1 in rows beyond the last
]
PACKET = np.dtype(_FIELDS, align=True)  # NumPy fills columns that are aligned twice as fast
COLUMNS = [name for name, _ in _FIELDS]
RECORDED = COLUMNS[:-1]  # `frame` follows from the others


def unpacked(arrays: Mapping[str, npt.ArrayLike], prefixes: Sequence[str]) -> np.ndarray:
    """`PACKET` [P]: the packets of several indexes, from their arrays, one after another.

    Raises:
        ValueError: `to_arrays` cannot have written these arrays. So does KeyError.
    """
    counts = [len(np.asarray(arrays[f"{prefix}sets"])) for prefix in prefixes]
    packets = np.empty(sum(counts), PACKET)
    for prefix, part in zip(prefixes, np.split(packets, np.cumsum(counts)), strict=False):
        for name in COLUMNS:
            column = np.asarray(arrays[f"{prefix}{name}"])
            if column.shape != part.shape or column.dtype.kind not in "iu":
                raise ValueError(f"{column.shape} {column.dtype} values for {len(part)} packets")
            part[name] = column
    return packets
