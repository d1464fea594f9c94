"""What makes a packet or its picture doubtful, judged from all packets of a video together.

`epic100.scan.damage_ranges` lists all phrases and their consequences.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from epic100.video.index import VideoIndex

UNDECODED, CORRUPT = "packets do not decode cleanly", "pictures are flagged corrupt"
SILENT = "pictures do not come out of the decoder"
BROKEN_UNITS = "packets are not whole NAL units"
FORBIDDEN = "packets hold bytes that no coder writes"
NUMBERING = "pictures break the numbering"
WRONG_TIME = "packets have an impossible time"
SHARED_TIME = "pictures share their time with another"
GAPS = "gaps between pictures"
OTHER_SIZE = "pictures are of another size"
REPEATED = "groups of pictures are repeated"

GAP = 1.5  # times the usual step
PAUSE = 3.5  # the same, of a step in which pictures that no other depends on cannot be lost alone
FEW_SHARE = 0.01  # share of other time steps up to which a longer one is a gap
OTHER_SHARE = 0.1  # share of other steps of order count up to which one is a jump; share of other
# time steps up to which a longer one beside a faulty packet is a gap
REPEAT_PACKETS = 8  # shorter groups may be equal by chance, as in a still scene
_AROUND = 32  # pictures; a loss and its gap may lie so far apart, since pictures are reordered
_LASTING = 8  # pictures over which a slip must last to count


@dataclass(slots=True)
class Packet:
    """What is known about one packet and its picture.

    Attributes:
        shown: Not hidden by an edit list.
        order: Order count within `sequence`, None if not known.
        fault: The first of the phrases above that applied.
    """

    pts: int
    dts: int
    is_key: bool
    shown: bool
    checksum: int = 0
    fault: str = ""
    reference: bool = True
    sequence: int = 0
    order: int | None = None
    decoded: bool = False
    size: tuple[int, int] | None = None

    def blame(self, fault: str) -> None:
        """Record a fault; the first one is kept."""
        self.fault = self.fault or fault


def blame_missing(packets: list[Packet]) -> int:
    """Blame packets that gave no picture.

    Args:
        packets: In decoding order.

    Returns:
        How many pictures are hidden after the first packet with an impossible time: a corrupted
        index gave them times that the edit list does not show.
    """
    hidden, turned = 0, False
    for p in packets:
        turned = turned or p.fault == WRONG_TIME
        hidden += turned and not p.shown
        if not p.decoded:
            p.blame(SILENT)
    return hidden


def blame_times(
    by_time: list[Packet], index: VideoIndex, order_span: int, tells_lost: bool = False
) -> int | None:
    """Blame gaps, shared times and jumps in order count.

    A long step is not a gap if the numbering shows that nothing is lost: a camera may pause.

    Args:
        by_time: Shown packets in presentation order.
        index: The index of the same packets.
        order_span: Order counts are known modulo this; 0: exactly.
        tells_lost: Each picture lists those that it and later ones depend on, as in HEVC, and the
            decoder reports a lost one at the next picture.

    Returns:
        The first frame from which all times are off, because pictures are lost there without a
        gap; or None.
    """
    for p, before in zip(by_time[1:], by_time, strict=False):
        if p.pts == before.pts:
            p.blame(SHARED_TIME)
    if len(by_time) < 3:
        return None
    sequences = np.array([p.sequence for p in by_time])
    for i in np.flatnonzero(np.diff(sequences) < 0):
        by_time[i].blame(NUMBERING)  # one of the two is shown at the wrong time
        by_time[i + 1].blame(NUMBERING)
    steps = np.diff(index.pts)
    usual = max(np.median(steps), 1)
    orders = np.array([p.order for p in by_time], dtype=float)
    counted = np.diff(orders)
    counted[np.diff(sequences) != 0] = np.nan
    known = ~np.isnan(counted)
    jumps, off = np.zeros(len(steps), dtype=bool), None
    if known.any():
        regular = max(np.median(counted[known]), 1)
        odd = known & (counted != regular)
        if odd.sum() <= OTHER_SHARE * known.sum():
            jumps = odd
            slips = orders / regular - np.round((index.pts - index.pts[0]) / usual)
            off = _first_slip(np.flatnonzero(jumps) + 1, sequences, slips, order_span / regular)
        elif (counted[known] <= 0).mean() <= OTHER_SHARE:
            jumps = known & (counted <= 0)
        else:
            known[:] = False  # order counts of an unknown pattern
    for i in np.flatnonzero(jumps):
        by_time[i + 1].blame(NUMBERING)
    spoilt = np.array([bool(p.fault) for p in by_time])
    others = (np.abs(steps - usual) > max(0.1 * usual, 1)).sum()
    # With a coarse time base, a step that was rounded up is not a gap.
    gaps = (steps > max(GAP * usual, usual + 1)) & ~known & (others <= OTHER_SHARE * len(steps))
    if not are_few(others, len(steps)):
        gaps &= spoilt[1:] | spoilt[:-1]
    if tells_lost:
        gaps &= (steps <= PAUSE * usual) | spoilt[1:] | [p.is_key for p in by_time[1:]]
    for i in np.flatnonzero(gaps):
        by_time[i + 1].blame(GAPS)
    return off


def are_few(count: int, steps: int) -> bool:
    """Whether so many odd ones among the time steps are exceptions; one always is."""
    return count <= max(1, FEW_SHARE * steps)


def losses_without_gap(by_time: list[Packet]) -> list[int]:
    """Frames that tell of lost pictures, with no long step around that would stand for them.

    Either the numbering breaks there, or a picture waits for what it depends on.

    Args:
        by_time: As for `blame_times`, which has blamed them.
    """
    pts = np.array([p.pts for p in by_time])
    steps = np.diff(pts)
    long = np.append(False, steps > PAUSE * max(np.median(steps), 1)) if len(steps) else [False]
    return [
        i
        for i, p in enumerate(by_time)
        if p.fault in (NUMBERING, SILENT) and not any(long[max(i - _AROUND, 0) : i + _AROUND])
    ]


def _first_slip(
    jumps: np.ndarray, sequences: np.ndarray, slips: np.ndarray, span: int
) -> int | None:
    """The first jump after which order count and time stay apart.

    A corrupted header makes them differ only briefly.
    """
    for sequence in np.unique(sequences[jumps]):
        own = np.flatnonzero(sequences == sequence)
        jumped = jumps[sequences[jumps] == sequence]
        behind = slips[own[own >= jumped[-1]]][-_LASTING:]
        if np.isnan(behind).all() or np.isnan(slips[own[0]]):
            continue
        slip = np.nanmedian(behind) - slips[own[0]]
        if abs(slip % span if span else slip) > 0.5:
            return int(jumped[0])
    return None


def blame_sizes(by_time: list[Packet]) -> None:
    """Blame pictures of a size that most pictures do not have."""
    sizes = Counter(p.size for p in by_time if p.size)
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        for p in by_time:
            if p.size and p.size != usual:
                p.blame(OTHER_SIZE)


def blame_repeats(packets: list[Packet], position: dict[int, int], still: np.ndarray) -> int | None:
    """Blame key frames of groups that repeat the previous group byte for byte.

    Args:
        packets: In decoding order.
        position: File frame by packet number.
        still: bool [F]: pictures that look like the one before; these may be coded alike.

    Returns:
        The first frame from which all are late because of a repeat, or None.
    """
    off = None
    keys = [n for n, p in enumerate(packets) if p.is_key] + [len(packets)]
    before: list[int] = []
    for start, stop in zip(keys, keys[1:], strict=False):
        group = [p.checksum for p in packets[start:stop]]
        first = position.get(start)
        if (
            group == before
            and len(group) >= REPEAT_PACKETS
            and first is not None
            and not still[first + 1 : first + len(group)].all()
        ):
            packets[start].blame(REPEATED)
            off = first if off is None else off
        before = group
    return off
