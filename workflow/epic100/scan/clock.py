"""Compare the length of a video by its frames with the sheet, or else with its header.

A damaged table of times, or a trim, makes intact frames appear at another time. Nothing tells which
frames these are, so no frame is marked: all of the file is a finding, and `clean` holds its
segments back until the user accepts it (`videos: accept:`).
"""

from epic100.scan.damage import BREAKS_OFF
from epic100.video.index import VideoIndex
from epic100.video.scan_table import ScanRow

# A frame that is shown this much too early or too late may show another action.
FAR_SECONDS = 0.5


def clock_finding(row: ScanRow, index: VideoIndex, seconds: float, fps: float = 0.0) -> str:
    """Describe how the length of a video differs from that in the sheet.

    If the sheet gives none, the header of the file is asked. It may be off in an undamaged file: an
    edit list may begin with nothing, and some muxers count hidden frames.

    Args:
        row: The row of the scan table, as measured in the file. `row.pictures` also counts those
            that are lost at the end of a truncated file.
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
        clauses += [f"its header says {row.stated:.2f} s"] if row.stated else []
        clauses += [f"the sheet says {seconds:.2f} s"] if seconds else []
        return ", ".join(clauses)
    return _hidden_frames(row, sheet_frames=seconds * fps, far_frames=FAR_SECONDS * fps)


def _hidden_frames(row: ScanRow, sheet_frames: float, far_frames: float) -> str:
    """Describe frames that the edit list hides, though the sheet counts them; "" if none are.

    A damaged table of times may stretch the first frames over the total length. The edit list hides
    the others then, and the file has as many frames as the sheet says.

    Args:
        row: The row of the scan table. `row.coded` also counts the hidden frames.
        sheet_frames: Number of frames by length and frame rate of the sheet; 0: unknown.
        far_frames: The largest number of hidden frames that is not reported.
    """
    hidden_count = row.coded - row.pictures
    # The sheet rounds length and frame rate, so its number of frames may be off by one.
    if hidden_count > far_frames and sheet_frames and abs(row.coded - sheet_frames) < 2:
        return f"it hides {hidden_count} of the sheet's {row.coded} frames"
    return ""
