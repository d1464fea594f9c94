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
        row: The row of the scan table, as measured in the file. `row.pictures` also counts those
            that are lost at the end of a truncated file.
        index: The frame index of the file. `index.frames` counts only pictures that are in the file
            and are shown.
        seconds: The length in the sheet; 0: unknown.
        fps: The frame rate in the sheet; 0: unknown.

    Returns:
        The lengths, such as `its pictures last 9.00 s, the sheet says 12.00 s`; or, if the lengths
        agree but an edit list hides pictures, `it hides 30 of the sheet's 120 pictures`; else "". A
        truncated file may be shorter than it should be: that is damage, which the scan reports.
    """
    lost_pictures = row.pictures - index.frames
    measured = float(index.times[-1])
    # The last picture is shown for one step, and each lost picture would have lasted one more step.
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
    return _hidden_pictures(row, sheet_pictures=seconds * fps, far_pictures=FAR_SECONDS * fps)


def _hidden_pictures(row: ScanRow, sheet_pictures: float, far_pictures: float) -> str:
    """Describe pictures that the edit list hides, though the sheet counts them; "" if none are.

    A damaged table of times may stretch the first pictures over the whole length. The edit list
    hides the others then, and the file has as many pictures as the sheet says.

    Args:
        row: The row of the scan table. `row.coded` also counts the hidden pictures.
        sheet_pictures: Number of pictures by length and frame rate of the sheet; 0: unknown.
        far_pictures: The largest number of hidden pictures that is not reported.
    """
    hidden_count = row.coded - row.pictures
    # The sheet rounds length and frame rate, so its number of pictures may be off by one.
    if hidden_count > far_pictures and sheet_pictures and abs(row.coded - sheet_pictures) < 2:
        return f"it hides {hidden_count} of the sheet's {row.coded} pictures"
    return ""
