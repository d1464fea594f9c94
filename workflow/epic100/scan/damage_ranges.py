"""From what a scan saw of each packet to damaged ranges of frames and reasons.

Phrases of the scan table's `reason`. These mark pictures:

phrase                                        what was seen
--------------------------------------------- --------------------------------------------------
truncated: N of M pictures are in the file    the container promises more than there is: by its
                                              index, or by its length where coded data is unused
truncated: the file ends inside a fragment    of a fragmented file, which promises no number
input errors while reading: ...               as from a bad sector
N packets do not decode cleanly               the decoder refuses, or logs an error and goes on
N pictures are flagged corrupt                container or decoder says so; a slice of H.264 does
                                              not end where its picture ends (`epic100.scan.h264`)
N pictures do not come out of the decoder     a packet went in, nothing came out
N packets are not whole NAL units             lengths inside a packet do not add up to its size
N packets hold bytes that no coder writes     zeros in a row inside a slice of H.264
N pictures break the numbering                `frame_num` or order count jumps: pictures are lost,
                                              swapped, or have a spoilt header
N pictures share their time with another      the same presentation time twice
N gaps between pictures                       a step of over 1.5 usual ones, and no numbering that
                                              shows that nothing is lost there
N pictures are of another size                than most; a clip cannot hold both
N packets have an impossible time             decoded before the one before, or over 10 s more or
                                              less ahead of being shown than that was
N groups of pictures are repeated             byte for byte the group before
its parameter sets are spoilt: ...            they differ by a bit from those of the participant's
                                              other videos: all pictures (`parameter_checks`)
its clock is contradicted: ...                by the file itself, its coder or the sheet: all
                                              pictures (`epic100.scan.clock_checks`)
N pictures are off their time                 all behind lost or repeated pictures whose place in
                                              time was closed, unless the file is as long as told

A damaged range runs from the first doubtful picture to the next key frame that decodes cleanly,
for whatever is decoded in between may be built on it. A doubtful picture that no other is built on
(a non-reference picture of H.264) is a range of its own, and so is a clean key frame behind a gap.
"""

from collections import Counter

import numpy as np

from epic100.scan.packet_checks import (
    CORRUPT,
    FORBIDDEN,
    GAPS,
    SILENT,
    UNDECODED,
    Packet,
    blame_missing,
    blame_repeats,
    blame_sizes,
    blame_times,
)
from epic100.video.index import VideoIndex

OFF = "pictures are off their time"
# These spoil the picture itself: one that no other is built on spoils nothing else.
_OWN = {UNDECODED, CORRUPT, SILENT, FORBIDDEN}

REORDER = 16  # pictures that one may be shown before those decoded ahead of it
OFF_SECONDS = 0.5  # as far off stands the picture of another action


def judge(
    packets: list[Packet],
    index: VideoIndex,
    lost: int,
    still: np.ndarray,
    order_span: int = 0,
    seconds: float = 0.0,
) -> tuple[list[tuple[int, int]], list[str]]:
    """Half-open ranges of damaged file frames, and reasons, from packets in order of decoding.

    `index`: of the same packets. `lost`: pictures that the container promises behind the last one.
    `still` bool [F]: pictures that look like the one before. `order_span`: order counts are known
    modulo this. `seconds`: how long the video should be (0: not known).
    """
    numbers = [n for n, p in enumerate(packets) if p.shown]
    numbers.sort(key=lambda n: packets[n].pts)
    by_time = [packets[n] for n in numbers]
    position = {n: i for i, n in enumerate(numbers)}
    lost = max(lost, blame_missing(packets))
    found = (blame_times(by_time, index, order_span), blame_repeats(packets, position, still))
    slips = [frame for frame in found if frame is not None]
    blame_sizes(by_time)
    damaged = spread(packets, position, index.frames)
    counts = Counter(p.fault for p in by_time if p.fault)
    if damaged.any() and not counts:  # all in what an edit list hides
        counts = Counter(p.fault for p in packets if p.fault)
    lasts = index.times[-1] + 1 / index.fps if index.fps else 0.0
    if slips and not (seconds and abs(lasts - seconds) < OFF_SECONDS):
        damaged[min(slips) :] = True
        counts[OFF] = index.frames - min(slips)
    reasons = [f"{count} {fault}" for fault, count in counts.items()]
    if lost:
        promised = index.frames + lost
        reasons.insert(0, f"truncated: {index.frames} of {promised} pictures are in the file")
    return ranges(np.concatenate([damaged, np.ones(lost, dtype=bool)])), reasons


def spread(packets: list[Packet], position: dict[int, int], frames: int) -> np.ndarray:
    """Mark bool [frames] from each doubtful picture to the next clean key frame.

    `position`: file frame by packet number. Pictures that lead a key frame (open GOP: decoded
    after it, shown before it) still lean on what came before; nothing leans on them.
    """
    damaged = np.zeros(frames, dtype=bool)
    run: list[int] = []  # file frames of one damaged stretch

    def close() -> None:
        run.sort()
        for a, b in zip(run, run[1:] + run[-1:], strict=True):
            # A picture that a spoilt index shows somewhere else does not spoil all in between.
            damaged[a : b if a < b <= a + REORDER else a + 1] = True
        run.clear()

    tainted = leading_tainted = False
    key_pts = None  # of the clean key frame whose leading pictures may follow
    for number, p in enumerate(packets):
        leading = False
        if p.is_key and p.fault in ("", GAPS):
            tainted, leading_tainted, key_pts = False, tainted, p.pts
            if p.fault and number in position:
                damaged[position[number]] = True  # the hole before it, so that none spans it
        elif p.is_key:
            tainted, key_pts = True, None
        else:
            leading = key_pts is not None and p.pts < key_pts
            if not leading and key_pts is not None:
                key_pts = None
                if not tainted:
                    close()
            if p.fault and not p.reference and p.fault in _OWN:
                if number in position:
                    damaged[position[number]] = True
            elif p.fault and leading:
                leading_tainted = True
            elif p.fault:
                tainted = True
        if (tainted or (leading and leading_tainted)) and number in position:
            run.append(position[number])
    close()
    return damaged


def ranges(marks: np.ndarray) -> list[tuple[int, int]]:
    """Half-open (start, stop) of the runs of True."""
    edges = np.flatnonzero(np.diff(marks, prepend=False, append=False))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
