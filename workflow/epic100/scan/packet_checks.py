"""What makes a packet or its picture doubtful, seen from all packets of a video together.

The table of all phrases, and what follows from them, stands in `epic100.scan.damage_ranges`.
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

GAP = 1.5  # usual steps
CONSTANT_SHARE = 0.99  # of the steps in time that are alike, for a longer one to be a gap
REGULAR_SHARE = 0.9  # of the steps of order counts that are alike, for another to be a jump;
# of those in time, for one beside a spoilt packet to be a gap
REPEAT_PACKETS = 8  # shorter groups may be alike by chance, as in a still picture
_LASTING = 8  # pictures over which a slip must hold to be one


@dataclass(slots=True)
class Packet:
    """What one packet and its picture said.

    `shown`: not hidden by an edit list. `order`: order count within `sequence`, None if unknown.
    `fault`: the first of the phrases above that it gave cause for.
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
        """Note a fault; the first one stays."""
        self.fault = self.fault or fault


def blame_missing(packets: list[Packet]) -> int:
    """Blame packets without a picture, in order of decoding.

    Returns how many pictures stand hidden behind the first packet of an impossible time: a spoilt
    index gave them times that an edit list does not show.
    """
    hidden, turned = 0, False
    for p in packets:
        turned = turned or p.fault == WRONG_TIME
        hidden += turned and not p.shown
        if not p.decoded:
            p.blame(SILENT)
    return hidden


def blame_times(by_time: list[Packet], index: VideoIndex, order_span: int) -> int | None:
    """Blame gaps, shared times and jumps in order count; `by_time`: shown packets, in that order.

    A step in time is a gap only where the numbering does not show that nothing is lost: a camera
    may pause. Returns the first frame behind which all is off its time, since pictures are lost
    there without a gap, or None. `order_span`: order counts are known modulo this (0: exactly).
    """
    for p, before in zip(by_time[1:], by_time, strict=False):
        if p.pts == before.pts:
            p.blame(SHARED_TIME)
    if len(by_time) < 3:
        return None
    sequences = np.array([p.sequence for p in by_time])
    for i in np.flatnonzero(np.diff(sequences) < 0):
        by_time[i].blame(NUMBERING)  # one of the two is shown at a wrong time
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
        if odd.sum() <= (1 - REGULAR_SHARE) * known.sum():
            jumps = odd
            slips = orders / regular - np.round((index.pts - index.pts[0]) / usual)
            off = _first_slip(np.flatnonzero(jumps) + 1, sequences, slips, order_span / regular)
        elif (counted[known] <= 0).mean() <= 1 - REGULAR_SHARE:
            jumps = known & (counted <= 0)
        else:
            known[:] = False  # an order count that this cannot read
    alike = (np.abs(steps - usual) <= max(0.1 * usual, 1)).mean()
    # In a coarse unit of time a step that is rounded up is no gap.
    gaps = (steps > max(GAP * usual, usual + 1)) & ~known & (alike >= REGULAR_SHARE)
    if alike < CONSTANT_SHARE:
        spoilt = np.array([bool(p.fault) for p in by_time])
        gaps &= spoilt[1:] | spoilt[:-1]
    for fault, where in ((NUMBERING, jumps), (GAPS, gaps)):
        for i in np.flatnonzero(where):
            by_time[i + 1].blame(fault)
    return off


def _first_slip(
    jumps: np.ndarray, sequences: np.ndarray, slips: np.ndarray, span: int
) -> int | None:
    """The first jump behind which order count and time stay apart; a spoilt header's do not."""
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
    """Blame pictures that are not of the size that most are of."""
    sizes = Counter(p.size for p in by_time if p.size)
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        for p in by_time:
            if p.size and p.size != usual:
                p.blame(OTHER_SIZE)


def blame_repeats(packets: list[Packet], position: dict[int, int], still: np.ndarray) -> int | None:
    """Blame key frames whose group is the one before again, byte for byte.

    `position`: frame by packet number. `still` bool [F]: pictures that look like the one before,
    which may be coded alike. Returns the first frame that all behind it come late for, or None.
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
