"""Judge a scanned video: which ranges of frames are damaged, and for what reasons.

The length of the video is compared with the sheet as well (`clock_finding`).

These phrases of the scan table's `reason` mark frames as damaged:

phrase                                        what was seen
--------------------------------------------- --------------------------------------------------
truncated: N of M frames are in the file      the container promises more than there is: by its
                                              index, or by its length if data is unused or missing
truncated: the file ends inside a fragment    in a fragmented file, which promises no number
truncated: the file is shorter than its header states    Matroska or WebM, by less than a second
input errors while reading: ...               for example from a bad sector
N packets do not decode cleanly               the decoder rejects it, or logs an error and goes on
N frames are flagged corrupt                  by container or decoder; or a slice of H.264 does
                                              not end where its frame ends (`epic100.scan.h264`)
N frames do not come out of the decoder       a packet went in, no frame came out
N frames have no file, or an empty one        among extracted frames, a number is missing
N packets are not complete NAL units          lengths inside a packet do not add up to its size
N packets have other parameter sets           than the header of the file, from which the reader
                                              takes them
N frames break the numbering                  `frame_num` or order count jumps: frames are lost,
                                              swapped, or have a corrupted header
N frames share their time with another        the same presentation time twice
N gaps between frames                         a step over 1.5 times the usual, unless the
                                              numbering, or the decoder of HEVC, shows that no
                                              frame is lost
N frames are of another size                  than most; a clip cannot contain both
N groups have a defect that is reported late  without CABAC, a decoder may notice a spoilt frame
                                              only where a later one refers to it

A damaged range runs from the first doubtful frame to the next key frame that decodes cleanly,
because whatever is decoded in between may depend on it. A doubtful frame that no other depends on
(a non-reference frame of H.264) is a range by itself. So is a clean key frame after a gap.

A check stays for what it finds alone. In 269 damaged files of H.264 (docs/evidence/scan.md)
these harmed frames are missed without it: taller frame 204, numbering 14, gaps and shared times
162, the check of the clock 654 (`clock`). Exact spread finds none, but marks 10,593 fewer undamaged
frames than complete groups would.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from epic100.video.index import VideoIndex
from epic100.video.scan_table import ScanRow, ranges_of

UNDECODED, CORRUPT = "packets do not decode cleanly", "frames are flagged corrupt"
SILENT = "frames do not come out of the decoder"
NO_FILE = "frames have no file, or an empty one"
BROKEN_UNITS = "packets are not complete NAL units"
OTHER_SETS = "packets have other parameter sets"
NUMBERING = "frames break the numbering"
SHARED_TIME = "frames share their time with another"
GAPS = "gaps between frames"
OTHER_SIZE = "frames are of another size"
LATE_DEFECT = "groups have a defect that is reported late"
TRUNCATED, READ_ERRORS = "truncated: ", "input errors while reading: "
# A file that ends too early has one of these reasons.
BREAKS_OFF = (TRUNCATED, READ_ERRORS)

# A step is long if it is over GAP times the usual one.
GAP = 1.5
# A step over PAUSE times the usual one must lack frames that others depend on too.
PAUSE = 3.5
# A long step is a gap if at most this share of the time steps is unusual.
FEW_SHARE = 0.01
# With up to this share, a long step is a gap only next to a packet with a defect. An unusual step
# of the order count is a jump if at most this share of its steps is unusual.
OTHER_SHARE = 0.1
# These defects affect the frame itself. If it is not a reference frame, no other is affected.
_DEFECTS_OF_ONE_FRAME = {UNDECODED, CORRUPT, SILENT}

# Presentation order may differ from decoding order by this number of frames (H.264, clause A.3.1).
MAX_REORDERED = 16


@dataclass(slots=True)
class Packet:
    """A packet as the scan saw it, with its defects and what is known of its frame.

    Attributes:
        pts: Presentation time, in units of the stream's time base.
        is_key: Whether decoding can begin at this packet.
        shown: Whether the frame is shown, and not hidden by an edit list.
        defect: The first defect that was found, e.g. `UNDECODED`; "" if there is none.
        reference: Whether other frames may depend on this one.
        sequence: Number of the coded video sequence, within which order counts are comparable.
        order: Picture order count within `sequence`; None if it is not known.
        decoded: Whether the decoder gave the frame, or a quick check did not ask for it.
        size: (width, height) of the decoded frame; None if it did not come out.
        frame: Number in presentation order; None if it is hidden.
    """

    pts: int
    is_key: bool
    shown: bool
    defect: str = ""
    reference: bool = True
    sequence: int = 0
    order: int | None = None
    decoded: bool = False
    size: tuple[int, int] | None = None
    frame: int | None = None

    def mark(self, defect: str) -> None:
        """Set `defect`, unless an earlier defect is there."""
        self.defect = self.defect or defect


@dataclass(frozen=True)
class Scanned:
    """What the scan of a file has seen.

    Attributes:
        packets: All packets in decoding order.
        index: The frame index of the same packets.
        judged: How damage was searched, as in a row of the scan table.
        coded: Number of frames, including those that an edit list hides.
        lost: Number of frames that the container promises after the last one.
        broke_off: Why the file ends too early, as a reason of the scan table; "" if it does not.
        stated: Seconds that the container says the frames last; 0 if it does not say.
    """

    packets: list[Packet]
    index: VideoIndex
    judged: str
    coded: int
    lost: int = 0
    broke_off: str = ""
    stated: float = 0.0


def judge(scanned: Scanned) -> tuple[list[tuple[int, int]], list[str]]:
    """Find the damaged frames of a video and the reasons.

    This sets `frame` of each packet that is shown, and `defect` of each in which it finds a defect.

    Returns:
        Half-open ranges of damaged file frames, lost ones after the last frame included; and the
        reasons, e.g. `3 frames break the numbering`.
    """
    packets, frames, lost = scanned.packets, scanned.index.frames, scanned.lost
    by_time = sorted((packet for packet in packets if packet.shown), key=lambda packet: packet.pts)
    for number, packet in enumerate(by_time):
        packet.frame = number
    _mark_defects(packets, by_time, scanned.index)
    damaged = spread(packets, frames)
    # The number of frames with each defect. If no shown frame has one, but some are damaged, they
    # depend on a hidden frame that has.
    counts = Counter(packet.defect for packet in by_time if packet.defect)
    if damaged.any() and not counts:
        counts = Counter(packet.defect for packet in packets if packet.defect)
    reasons = [f"{count} {defect}" for defect, count in counts.items()]
    # A file that ends too early says so first.
    if lost:
        reasons.insert(0, f"{TRUNCATED}{frames} of {frames + lost} frames are in the file")
    if scanned.broke_off:
        reasons.insert(0, scanned.broke_off)
    return ranges_of(np.concatenate([damaged, np.ones(lost, dtype=bool)])), reasons


def _mark_defects(packets: list[Packet], by_time: list[Packet], index: VideoIndex) -> None:
    """Mark the defects that packets show together; a packet's own defects are marked already.

    Args:
        packets: All packets in decoding order.
        by_time: Shown packets in presentation order.
        index: The index of the same packets.
    """
    # Frames that do not come out, or share their time.
    for packet in packets:
        if not packet.decoded:
            packet.mark(SILENT)
    for earlier, later in pairwise(by_time):
        if earlier.pts == later.pts:
            later.mark(SHARED_TIME)
    # Between two frames there is one step, and no other to compare it with.
    if len(by_time) >= 3:
        is_numbered = _mark_jumps(by_time)
        # This comes later, since a long step may be a gap only next to a frame with a defect.
        _mark_gaps(by_time, index, is_numbered)
    # Frames of a size that most frames do not have. A frame that did not come out has none.
    sizes = Counter(packet.size for packet in by_time if packet.size)
    if sizes:
        ((usual_size, _),) = sizes.most_common(1)
        for packet in by_time:
            if packet.size and packet.size != usual_size:
                packet.mark(OTHER_SIZE)


def _mark_jumps(by_time: list[Packet]) -> np.ndarray:
    """Mark the frames where the order count jumps; return which steps could be judged by it.

    The two frames where the order returns to an earlier sequence are marked as well.

    Args:
        by_time: Shown packets in presentation order, whose `defect` is set.

    Returns:
        bool [F - 1]: whether the order counts tell if a frame is lost in the step from frame n
        to frame n + 1. Where they tell that one is, the frame after the step is marked here.
    """
    sequences = np.array([packet.sequence for packet in by_time])
    for earlier in np.flatnonzero(np.diff(sequences) < 0):
        # One of the two is shown at the wrong time, and nothing tells which.
        by_time[earlier].mark(NUMBERING)
        by_time[earlier + 1].mark(NUMBERING)
    # An unknown order count becomes NaN, and so does each step from or to it.
    order_counts = np.array([packet.order for packet in by_time], dtype=float)
    order_steps = np.diff(order_counts)
    # Order counts of two sequences cannot be compared.
    order_steps[np.diff(sequences) != 0] = np.nan
    is_numbered = ~np.isnan(order_steps)
    # Without any step that can be judged, there is no median, and there are no jumps.
    usual_step = max(np.median(order_steps[is_numbered]), 1) if is_numbered.any() else 1
    jumps = is_numbered & (order_steps != usual_step)
    if jumps.sum() > OTHER_SHARE * is_numbered.sum():
        # An encoder may count in uneven steps. Then only a step back is a jump.
        jumps = is_numbered & (order_steps <= 0)
    if jumps.sum() > OTHER_SHARE * is_numbered.sum():
        # Order counts of an unknown pattern tell nothing.
        return np.zeros_like(is_numbered)
    for earlier in np.flatnonzero(jumps):
        by_time[earlier + 1].mark(NUMBERING)
    return is_numbered


def _mark_gaps(by_time: list[Packet], index: VideoIndex, is_numbered: np.ndarray) -> None:
    """Mark each frame after a step in time within which frames must be lost.

    A camera may pause, so a long step is no gap if the order counts show that nothing is lost.

    Args:
        by_time: Shown packets in presentation order, whose `defect` is set.
        index: The index of the same packets.
        is_numbered: bool [F - 1]: whether order counts tell about a step (`_mark_jumps`).
    """
    # Entry n of all arrays of steps is about the step from frame n to frame n + 1.
    steps = np.diff(index.pts)
    usual_step = max(np.median(steps), 1)
    has_defect = np.array([packet.defect != "" for packet in by_time])
    is_unusual = np.abs(steps - usual_step) > max(0.1 * usual_step, 1)
    unusual_count = is_unusual.sum()
    # With a coarse time base, a step that was rounded up by one unit is not a gap.
    is_long = steps > max(GAP * usual_step, usual_step + 1)
    gaps = is_long & ~is_numbered & (unusual_count <= OTHER_SHARE * len(steps))
    # At a variable rate, long steps are normal, and only a frame with a defect makes one a gap. At
    # a constant rate, one step is an exception in any video, however short.
    if unusual_count > max(1, FEW_SHARE * len(steps)):
        gaps &= has_defect[1:] | has_defect[:-1]
    # A frame of HEVC lists all that it and later ones depend on, so its decoder reports a loss.
    # A step over PAUSE is a mere pause if it reports none, except at a key frame, which depends on
    # nothing before it.
    if index.stream.codec == "hevc":
        is_key = np.array([packet.is_key for packet in by_time])
        is_pause = (steps > PAUSE * usual_step) & ~has_defect[1:] & ~is_key[1:]
        gaps &= ~is_pause
    for earlier in np.flatnonzero(gaps):
        by_time[earlier + 1].mark(GAPS)


def spread(packets: list[Packet], frames: int) -> np.ndarray:
    """Mark each frame with a defect, and the frames up to the next key frame without one.

    Leading frames of a key frame (open GOP: decoded after it, shown before it) still depend on
    the frames before it. No other frame depends on them.

    An example in decoding order: I is a key frame, P refers to earlier frames, B is a leading frame
    of the second key frame, and * is a defect.

        frame    I   P*  P   I   B   P
        damaged  -   yes yes -   yes -

    Args:
        packets: All packets in decoding order, whose `defect` is set.
        frames: Number of frames F.

    Returns:
        bool [F]: the damaged frames.
    """
    damaged = np.zeros(frames, dtype=bool)
    # These are the damaged frames since the last key frame without a defect. `_mark_stretch` also
    # marks the frames between them, so each stretch is marked as a whole.
    stretch: list[int] = []
    # `tainted` is whether the next frame depends on one with a defect, and `leading_tainted` is
    # whether the next leading frame does.
    tainted = leading_tainted = False
    # While leading frames of a key frame without a defect may follow, `key_pts` is its time.
    key_pts = None
    for packet in packets:
        defect = packet.defect
        is_leading = not packet.is_key and key_pts is not None and packet.pts < key_pts
        # What the next frames depend on, after this one.
        if packet.is_key and defect in ("", GAPS):
            # The key frame ends the damage, except for its leading frames.
            leading_tainted = tainted
            tainted = False
            key_pts = packet.pts
        elif packet.is_key:
            # The frames up to the next key frame may depend on this one.
            tainted = True
            key_pts = None
        else:
            # After the last leading frame, no frame of the damaged stretch can follow.
            if not is_leading and key_pts is not None:
                key_pts = None
                if not tainted:
                    _mark_stretch(damaged, stretch)
                    stretch = []
            harms_others = packet.reference or defect not in _DEFECTS_OF_ONE_FRAME
            if defect and harms_others and is_leading:
                leading_tainted = True
            elif defect and harms_others:
                tainted = True
        # Whether this frame is damaged. A hidden one has no number.
        if packet.frame is None:
            continue
        if tainted or (is_leading and leading_tainted):
            stretch.append(packet.frame)
        elif defect:
            # This frame harms no other. Or it is a key frame after a gap, which no clip may span.
            damaged[packet.frame] = True
    _mark_stretch(damaged, stretch)
    return damaged


def _mark_stretch(damaged: np.ndarray, stretch: list[int]) -> None:
    """Mark the frames of a damaged stretch, and those between near ones.

    Args:
        damaged: bool [F], the frames that are marked so far; changed in place.
        stretch: Numbers of the frames, in decoding order.
    """
    damaged[stretch] = True
    for frame, following in pairwise(sorted(stretch)):
        # A corrupted index may show a frame far away, and the frames in between are intact.
        if following <= frame + MAX_REORDERED:
            damaged[frame:following] = True


def mark_late_defects(packets: list[Packet]) -> None:
    """Mark the key frame of each group with a later frame that fails.

    A decoder may report an error only at a later frame that refers to a damaged one. So all of the
    group is in doubt. H.264 with CABAC does not need this: the bytes of each frame tell
    whether it is damaged (`h264`).

    Args:
        packets: All packets in decoding order.
    """
    last_key = None
    for packet in packets:
        if packet.is_key:
            last_key = packet
        elif last_key is not None and packet.defect in (UNDECODED, CORRUPT):
            last_key.mark(LATE_DEFECT)


# A frame that is shown so much too early or too late may show another action.
FAR_SECONDS = 0.5


def clock_finding(row: ScanRow, index: VideoIndex, seconds: float, fps: float = 0.0) -> str:
    """Describe how the length of a video differs from that in the sheet.

    If the sheet gives none, the header of the file is asked. It may be off in an undamaged file: an
    edit list may begin with nothing, and some muxers count hidden frames.

    A damaged table of times, or a trim, makes intact frames appear at another time. Nothing tells
    which frames these are, so no frame is marked: all of the file is a finding, and `clean` holds
    its segments back until the user accepts it (`videos: accept:`).

    Args:
        row: The row of the scan table, as measured in the file. `row.pictures` also counts those
            that are lost at the end of a truncated file, `row.coded` those that are hidden.
        index: The frame index of the file. `index.frames` counts only frames that are in the file
            and are shown.
        seconds: The length in the sheet; 0: unknown.
        fps: The frame rate in the sheet; 0: unknown.

    Returns:
        The lengths, e.g. `its frames last 9.00 s, the sheet says 12.00 s`; or, if the lengths agree
        but an edit list hides frames, `it hides 30 of the sheet's 120 frames`; else "". A truncated
        file may be shorter than it should be: that is damage, which the scan reports.
    """
    lost_frames = row.pictures - index.frames
    measured = float(index.times[-1])
    # The last frame is shown for one step, and each lost frame would have lasted one more step.
    if index.fps:
        measured += (1 + lost_frames) / index.fps
    expected = seconds or row.stated or measured
    is_cut_short = expected > measured and any(phrase in row.reason for phrase in BREAKS_OFF)
    if abs(expected - measured) > FAR_SECONDS and not is_cut_short:
        clauses = [f"its frames last {measured:.2f} s"]
        if row.stated:
            clauses.append(f"its header says {row.stated:.2f} s")
        if seconds:
            clauses.append(f"the sheet says {seconds:.2f} s")
        return ", ".join(clauses)
    # A damaged table of times may stretch the first frames over the total length. The edit list
    # hides the others then, and the file has as many frames as the sheet says. The sheet rounds
    # length and frame rate, so its number of frames may be off by one.
    hidden_count, sheet_frames = row.coded - row.pictures, seconds * fps
    if hidden_count > FAR_SECONDS * fps and sheet_frames and abs(row.coded - sheet_frames) < 2:
        return f"it hides {hidden_count} of the sheet's {row.coded} frames"
    return ""
