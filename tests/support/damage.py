"""Which pictures damage changes, by decoding both files, and which a scan marks."""

from pathlib import Path

import av
import numpy as np

from epic100.video.index import build_index


def marked(row) -> set[int]:
    return {frame for start, stop in row.damaged for frame in range(start, stop)}


def pictures(path: Path) -> dict[int, np.ndarray]:
    """Brightness of every picture that a lenient reader gets, by time since the first one's."""
    found, first = {}, build_index(path).pts[0]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    found[frame.pts - first] = frame.to_ndarray(format="gray")
            except av.error.FFmpegError:
                continue
    return found


def harmed(before: Path, after: Path) -> set[int]:
    """Frames of the undamaged file that are gone or visibly changed: a 16x16 block by over 8."""
    old, new, bad = pictures(before), pictures(after), set()
    index = build_index(before)
    for frame, pts in enumerate((index.pts - index.pts[0]).tolist()):
        if pts not in new:
            bad.add(frame)
            continue
        gap = np.abs(old[pts].astype(int) - new[pts])
        rows, columns = (size // 16 for size in gap.shape)
        blocks = gap[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16).mean((1, 3))
        if blocks.max() > 8:
            bad.add(frame)
    return bad
