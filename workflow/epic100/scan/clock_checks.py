"""Check whether a video's timing contradicts other sources.

One corrupted bit in an MP4's time tables shifts every picture. The file still opens, decodes and
looks fine. But the file states its times in several places, the encoder may have noted a frame
rate, and the sheet has the number of pictures and the length. A contradiction counts as damage,
because nobody knows which source is right.
"""

from dataclasses import replace

import numpy as np

from epic100.scan.oddities import SHEET_SECONDS
from epic100.video.containers import Mp4Clock
from epic100.video.index import VideoIndex
from epic100.video.sheet import Video

CLOSE = 1.5  # pictures: allowed difference inside a file, since some places leave out the last
MOST_STEPS = 5
EVEN = 0.05
EDIT = 0.75  # pictures: the same for an edit list, which hides what is beyond it
SAME = 0.5  # pictures: numbers that differ by less are the same
RATE_SHARE = 0.0004  # allowed difference of rates; less than between 60 and 59.94 fps
FEWEST = 1 / 8  # of the sheet's pictures; a copy at a lower rate has more of them
COUNT_SHARE = 0.002  # allowed difference from the sheet's number of pictures
CONTRADICTED = "its clock is contradicted"


def as_meant(sheet: Video, index: VideoIndex) -> Video:
    """The row of the sheet with the file's own rate, if it only mistakes 30 fps for 30000/1001.

    Its length may have been computed from the mistaken rate, or measured.
    """
    lasts = index.times[-1] + 1 / index.fps if index.fps else 0.0
    for factor in (1001 / 1000, 1000 / 1001):
        if index.fps and abs(sheet.fps / (index.fps * factor) - 1) < RATE_SHARE:
            lengths = (sheet.duration, sheet.duration * factor)
            length = min(lengths, key=lambda seconds: abs(seconds - lasts))
            return replace(sheet, fps=index.fps, duration=length)
    return sheet


def contradiction(
    index: VideoIndex,
    clock: Mp4Clock | None,
    coded_fps: float,
    sheet: Video,
    lost: int = 0,
) -> str:
    """Find a reason not to trust the times of a video.

    A file that is only unusual is accepted if the sheet confirms its length.

    Args:
        index: The measured times.
        clock: What the file states, None if not known.
        coded_fps: Fixed rate that the encoder noted in the stream, 0 if none.
        sheet: The row of the sheet; its rate and length are 0 if they are not known.
        lost: Pictures that are missing at the end of a truncated file.

    Returns:
        The reason as text, or "".
    """
    steps = np.diff(index.pts)
    # Corrupted decode times change steps only slightly: pts - dts is stored separately.
    even = len(steps) > 0 and bool(np.ptp(steps) <= max(1, EVEN * np.median(steps)))
    step = 1 / index.fps if index.fps else clock.ticks * clock.tick / clock.samples if clock else 0
    if not step or (clock and clock.samples < 2):
        return ""
    lasts = index.times[-1] + step
    if clock and clock.counted != clock.samples:
        return f"{clock.counted} times for {clock.samples} pictures"
    if clock and clock.delayed not in (None, clock.samples):
        return f"{clock.delayed} delays for {clock.samples} pictures"
    if sheet.fps and sheet.duration:
        off, wanted = abs(lasts - sheet.duration), sheet.fps * sheet.duration
        as_fast = abs(index.fps / sheet.fps - 1) < RATE_SHARE
        near = step / 2 if even and not as_fast else SHEET_SECONDS
        if found := _against_sheet(index, clock, lasts, sheet, lost, near):
            return found
        if off <= CLOSE * step and abs(index.frames - wanted) <= CLOSE and as_fast:
            return ""
    close = step / 8 if even or not len(steps) else CLOSE * float(steps.max() * index.time_base)
    if clock is not None and (within := _within_file(clock, step, close)):
        return within
    if coded_fps and even:
        # A coarse time base rounds 29.97 fps to 30. Some encoders count fields, some frames.
        share = RATE_SHARE + 0.5 / np.mean(steps)
        if all(abs(index.fps * by / coded_fps - 1) > share for by in (0.5, 1, 2)):
            return f"{index.fps:.3f} fps, its coder noted {coded_fps:.3f}"
    return ""


def _against_sheet(
    index: VideoIndex,
    clock: Mp4Clock | None,
    lasts: float,
    sheet: Video,
    lost: int,
    near: float,
) -> str:
    """Check the file against its sheet.

    `lasts`: seconds of the file. `near`: allowed difference in seconds if the sheet has exactly as
    many pictures.
    """
    wanted = sheet.fps * sheet.duration
    off, apart = abs(lasts - sheet.duration), abs(index.frames - wanted)
    if index.frames + lost < FEWEST * wanted:
        return f"it has {index.frames} of the sheet's {wanted:.0f} pictures"
    few = max(2, COUNT_SHARE * wanted)
    if (apart <= few and off > SHEET_SECONDS) or (apart < SAME and off > near):
        return f"its {index.frames} pictures last {lasts:.2f} s, the sheet's {sheet.duration:.2f} s"
    # If the sheet has exactly the number of coded pictures, it was made before the corruption.
    hidden = clock.samples - lost - index.frames if clock else 0
    if clock and hidden > 0 and abs(clock.samples - wanted) < min(CLOSE, hidden - SAME):
        return f"it hides {hidden} of the sheet's {wanted:.0f} pictures"
    return ""


def _within_file(clock: Mp4Clock, step: float, close: float) -> str:
    """Check the file against itself.

    `step`: seconds between pictures. `close`: allowed difference of two lengths in seconds.
    """
    seconds = clock.ticks * clock.tick
    stated = clock.stated_ticks * clock.tick
    # Some writers leave out the last picture's step, or add the steps that decoding is ahead.
    if min(abs(abs(seconds - stated) - few * step) for few in range(MOST_STEPS)) > close:
        return f"its pictures last {seconds:.2f} s, its track {stated:.2f} s"
    shown = sum(lasts for lasts, _ in clock.edits)
    if clock.edits and abs(shown - clock.track_seconds) > EDIT * step:
        return f"its edit list shows {shown:.2f} s of a track of {clock.track_seconds:.2f} s"
    end = clock.first * clock.tick + seconds
    for lasts, start in clock.edits:
        if start is not None and start * clock.tick + lasts > end + max(EDIT * step, close):
            goes = start * clock.tick + lasts
            return f"its edit list goes to {goes:.2f} s, its pictures to {end:.2f} s"
    return ""
