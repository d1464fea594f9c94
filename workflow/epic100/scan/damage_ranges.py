"""Turn what a scan saw of each packet into damaged ranges of frames and reasons.

These phrases of the scan table's `reason` mark pictures as damaged:

phrase                                        what was seen
--------------------------------------------- --------------------------------------------------
truncated: N of M pictures are in the file    the container promises more than there is: by its
                                              index, or by its length if data is unused or missing
truncated: the file ends inside a fragment    in a fragmented file, which promises no number
truncated: the file is shorter than its header states    Matroska or WebM, by less than a second
input errors while reading: ...               for example from a bad sector
N packets do not decode cleanly               the decoder refuses, or logs an error and goes on
N pictures are flagged corrupt                by container or decoder; or a slice of H.264 does
                                              not end where its picture ends (`epic100.scan.h264`)
N pictures do not come out of the decoder     a packet went in, no picture came out
N packets are not whole NAL units             lengths inside a packet do not add up to its size
N packets hold bytes that no coder writes     a run of zeros inside a slice of H.264, or a header
                                              of a slice that the standard forbids, or a choice in
                                              it that no other makes (`epic100.scan.h264_slice`)
N pictures break the numbering                `frame_num` or order count jumps: pictures are lost,
                                              swapped, or have a corrupted header
N pictures share their time with another      the same presentation time twice
N gaps between pictures                       a step over 1.5 times the usual, unless the
                                              numbering, or the decoder of HEVC, shows that no
                                              picture is lost
N pictures are of another size                than most; a clip cannot contain both
N packets have an impossible time             decoded before the previous one, or pts - dts
                                              changed by over 10 s from the previous one
N groups of pictures are repeated             byte for byte the previous group
its parameter sets are spoilt: ...            they differ by one bit from those of the participant's
                                              other videos: all pictures (`parameter_checks`)
its clock is contradicted: ...                by the file itself, its encoder or the sheet: all
                                              pictures (`epic100.scan.clock_checks`)
N pictures are off their time                 all after lost or repeated pictures that left no gap
                                              in time, unless the file has the sheet's length; or
                                              after the first loss without one, if the file is
                                              shorter than the sheet says

A damaged range runs from the first doubtful picture to the next key frame that decodes cleanly,
because whatever is decoded in between may depend on it. A doubtful picture that no other depends on
(a non-reference picture of H.264) is a range of its own. So is a clean key frame after a gap.
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
    losses_without_gap,
)
from epic100.video.index import VideoIndex

OFF = "pictures are off their time"
# These affect the picture itself. If it is not a reference picture, no other is affected.
_OWN = {UNDECODED, CORRUPT, SILENT, FORBIDDEN}

REORDER = 16  # how many pictures presentation order may differ from decoding order
OFF_SECONDS = 0.5  # so far off, a picture may show another action


def judge(
    packets: list[Packet],
    index: VideoIndex,
    lost: int,
    still: np.ndarray,
    order_span: int,
    seconds: float,
    tells_lost: bool,
) -> tuple[list[tuple[int, int]], list[str]]:
    """Find the damaged frames of a video and the reasons.

    Args:
        packets: In decoding order.
        index: The index of the same packets.
        lost: Number of pictures that the container promises after the last one.
        still: bool [F]: pictures that look like the one before.
        order_span: Order counts are known modulo this.
        seconds: Expected length of the video; 0: not known.
        tells_lost: As for `blame_times`.

    Returns:
        Half-open ranges of damaged file frames, and the reasons.
    """
    numbers = [n for n, p in enumerate(packets) if p.shown]
    numbers.sort(key=lambda n: packets[n].pts)
    by_time = [packets[n] for n in numbers]
    position = {n: i for i, n in enumerate(numbers)}
    lost = max(lost, blame_missing(packets))
    found = (
        blame_times(by_time, index, order_span, tells_lost),
        blame_repeats(packets, position, still),
    )
    slips = [frame for frame in found if frame is not None]
    lasts = index.times[-1] + 1 / index.fps if index.fps else 0.0
    if not lost and seconds - lasts >= OFF_SECONDS:
        slips += losses_without_gap(by_time)[:1]
    blame_sizes(by_time)
    damaged = spread(packets, position, index.frames)
    counts = Counter(p.fault for p in by_time if p.fault)
    if damaged.any() and not counts:  # all faults are in what an edit list hides
        counts = Counter(p.fault for p in packets if p.fault)
    if slips and not (seconds and abs(lasts - seconds) < OFF_SECONDS):
        damaged[min(slips) :] = True
        counts[OFF] = index.frames - min(slips)
    reasons = [f"{count} {fault}" for fault, count in counts.items()]
    if lost:
        promised = index.frames + lost
        reasons.insert(0, f"truncated: {index.frames} of {promised} pictures are in the file")
    return ranges(np.concatenate([damaged, np.ones(lost, dtype=bool)])), reasons


def spread(packets: list[Packet], position: dict[int, int], frames: int) -> np.ndarray:
    """Mark frames from each doubtful picture to the next clean key frame.

    Pictures that lead a key frame (open GOP: decoded after it, shown before it) still depend on
    what came before. No other picture depends on them.

    Args:
        packets: In decoding order.
        position: File frame by packet number.
        frames: Number of frames F.

    Returns:
        bool [F]: the damaged frames.
    """
    damaged = np.zeros(frames, dtype=bool)
    run: list[int] = []  # file frames of one damaged stretch

    def close() -> None:
        run.sort()
        for a, b in zip(run, run[1:] + run[-1:], strict=True):
            # A corrupted index may show a picture far away; the frames in between are fine.
            damaged[a : b if a < b <= a + REORDER else a + 1] = True
        run.clear()

    tainted = leading_tainted = False
    key_pts = None  # pts of the clean key frame; its leading pictures may follow
    for number, p in enumerate(packets):
        leading = False
        if p.is_key and p.fault in ("", GAPS):
            tainted, leading_tainted, key_pts = False, tainted, p.pts
            if p.fault and number in position:
                damaged[position[number]] = True  # so that no clip spans the gap
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
