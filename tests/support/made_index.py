"""Frame indexes of files that do not exist."""

from fractions import Fraction

import numpy as np

from epic100.video.index import VideoIndex
from epic100.video.packet_table import PacketTable, StreamFacts


def index_at(times, unit: Fraction, every: int = 10**9) -> VideoIndex:
    """The index of pictures shown at these times, in units of `unit` seconds.

    They are decoded in this order, and every `every`th is a key frame.
    """
    pts = np.asarray(times, dtype=np.int64)
    keys = np.arange(0, len(pts), every)
    packets = np.stack([np.arange(len(pts)), pts * 0 + 1, pts, pts, pts * 0 + 1], axis=1)
    stream = StreamFacts("h264", 320, 240, "yuv420p", unit, 4, (2, 2, 2, 2))
    return VideoIndex.from_table(
        PacketTable.pack(
            stream,
            packets,
            keys=keys,
            crcs=keys.astype(np.uint32),
            key_sets=keys * 0,
            sets=[b""],
            file_size=len(pts),
            direct=True,
        )  # fmt: skip
    )
