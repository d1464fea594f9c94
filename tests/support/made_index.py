"""Make frame indexes of files that do not exist. No test is here."""

from fractions import Fraction

import numpy as np

from epic100.video.facts import StreamFacts
from epic100.video.index import VideoIndex, measured_rate
from epic100.video.packet_table import PACKET


def index_at(times, unit: Fraction, every: int = 10**9) -> VideoIndex:
    """Make the index of a file whose frames are shown at these times, in units of `unit` seconds.

    They are decoded in this order, and each `every`-th frame is a key frame.
    """
    packets = np.zeros(len(times), PACKET)
    packets["pts"] = times
    packets["frame"] = np.argsort(times, kind="stable")
    numbers = np.arange(len(times))
    packets["offset"] = numbers
    packets["size"] = 1
    packets["shown"] = True
    packets["key"] = numbers % every == 0
    stream = StreamFacts("h264", 320, 240, "yuv420p", unit, (2, 2, 2, 2))
    rate = measured_rate(np.sort(packets["pts"]), unit)
    return VideoIndex(packets, stream, b"", len(times), rate)
