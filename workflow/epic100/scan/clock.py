"""One look at the clock of a video: its length has three tellers, and they must agree.

A spoilt table of times, or a film that was trimmed, shows sound pictures at another time. Which of
them is beyond telling, so nothing is marked: the whole file is a finding, and `clean` holds its
segments back until the user accepts it (`videos: accept:`).
"""

from epic100.scan.damage import BREAKS_OFF
from epic100.video.index import VideoIndex
from epic100.video.scan_table import ScanRow

# A picture that is shown this much too early or too late may show another action.
FAR_SECONDS = 0.5


def clock_finding(row: ScanRow, index: VideoIndex, seconds: float, fps: float = 0.0) -> str:
    """Compare the sum of a file's steps with the length that it states, and with the sheet's.

    Args:
        row: What was measured in the file.
        index: Its index.
        seconds: The length in the sheet; 0: not known.
        fps: The rate in the sheet. A spoilt table may stretch the first pictures over the whole
            length; then the edit list hides the others, and there are as many as in the sheet.

    Returns:
        All lengths that are known, as text, or "" if they agree. A file that breaks off may be
        shorter than it should be: that is damage, which is reported already.
    """
    lost = row.pictures - index.frames
    lasts = float(index.times[-1]) + ((1 + lost) / index.fps if index.fps else 0.0)
    lengths = {"its header says": row.stated, "the sheet says": seconds}
    known = {phrase: number for phrase, number in lengths.items() if number}
    differences = [number - lasts for number in known.values()]
    if any(phrase in row.reason for phrase in BREAKS_OFF):
        differences = [number for number in differences if number < 0]
    if any(abs(number) > FAR_SECONDS for number in differences):
        clauses = [f"{phrase} {number:.2f} s" for phrase, number in known.items()]
        return ", ".join([f"its pictures last {lasts:.2f} s", *clauses])
    hidden = row.coded - row.pictures
    if hidden > FAR_SECONDS * fps > 0 and abs(row.coded - seconds * fps) < 2:
        return f"it hides {hidden} of the sheet's {row.coded} pictures"
    return ""
