"""Compare the length of a video by its pictures, by its header and by the sheet: they must agree.

A damaged table of times, or a trim, makes intact pictures appear at another time. Nothing tells
which pictures these are, so no frame is marked: the whole file is a finding, and `clean` holds its
segments back until the user accepts it (`videos: accept:`).
"""

from epic100.scan.damage import BREAKS_OFF
from epic100.video.index import VideoIndex
from epic100.video.scan_table import ScanRow

# A picture that is shown this much too early or too late may show another action.
FAR_SECONDS = 0.5


def clock_finding(row: ScanRow, index: VideoIndex, seconds: float, fps: float = 0.0) -> str:
    """Describe how the length of a video differs from that in its header or in the sheet.

    Args:
        row: The row of the scan table, as measured in the file.
        index: The frame index of the file.
        seconds: The length in the sheet; 0: unknown.
        fps: The frame rate in the sheet; 0: unknown.

    Returns:
        The lengths, such as `its pictures last 9.00 s, the sheet says 12.00 s`; "" if they agree. A
        truncated file may be shorter than it should be: that is damage, which the scan reports.
    """
    lost_pictures = row.pictures - index.frames
    measured = float(index.times[-1])
    # The last picture is shown for one step, and each lost picture would follow for another one.
    if index.fps:
        measured += (1 + lost_pictures) / index.fps
    lengths = {"its header says": row.stated, "the sheet says": seconds}
    stated_lengths = {phrase: length for phrase, length in lengths.items() if length}
    differences = [length - measured for length in stated_lengths.values()]
    if any(phrase in row.reason for phrase in BREAKS_OFF):
        differences = [difference for difference in differences if difference < 0]
    if any(abs(difference) > FAR_SECONDS for difference in differences):
        clauses = [f"{phrase} {length:.2f} s" for phrase, length in stated_lengths.items()]
        return ", ".join([f"its pictures last {measured:.2f} s", *clauses])
    # A damaged table of times may stretch the first pictures over the whole length. The edit list
    # hides the others then, and the file has as many pictures as the sheet says, to within 2.
    hidden_count = row.coded - row.pictures
    if fps and hidden_count > FAR_SECONDS * fps and abs(row.coded - seconds * fps) < 2:
        return f"it hides {hidden_count} of the sheet's {row.coded} pictures"
    return ""
