"""Scan the extracted frames of a video: decode every JPEG once.

These are damaged: a number without a file, an empty or cut file, and what the decoder reports.
"""

import contextlib
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from epic100.base.guarded import FileError
from epic100.scan.clock import FAR_SECONDS
from epic100.scan.damage import NO_FILE, TRUNCATED, UNDECODED, Packet, judge
from epic100.video.facts import COLOURS, StreamFacts
from epic100.video.ffmpeg import decoder_errors, decoder_limit, packet_of
from epic100.video.frames import FrameFiles, list_frames, open_frames
from epic100.video.index import VideoIndex
from epic100.video.scan_table import DAMAGED, FRAMES, OK, ScanRow
from epic100.video.sheet import Video, annotation_rate

# Progress is reported once in this number of frames.
_REPORT_EVERY = 100


def scan_frames(
    path: Path, video: Video, max_pixels: int, progress: Callable[[int], None]
) -> tuple[ScanRow, VideoIndex]:
    """Decode all frames of a video; return its scan row and its frame index.

    Args:
        path: The tar or the folder.
        video: The row of the sheet.
        max_pixels: Larger frames are not decoded.
        progress: Called with the number of frames read so far.

    Raises:
        FileError: No frame decodes, or the file is no tar of frames.
        DiskError: The disk fails.
    """
    files = list_frames(path)
    records = [Packet(pts=n, is_key=True, shown=True) for n in range(len(files.packets))]
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = decoder_limit(max_pixels)
    with contextlib.closing(open_frames(path)) as file, decoder_errors() as decoder_log:
        for packet, record in zip(files.packets, records, strict=True):
            data = file.read_at(int(packet["offset"]), int(packet["size"]))
            packet["crc"] = zlib.crc32(data)
            decoder_log.clear()
            record.size = _decoded_size(decoder, data)
            record.decoded = record.size is not None
            if not data:
                record.blame(NO_FILE)
            elif decoder_log:
                record.blame(UNDECODED)
            if record.pts % _REPORT_EVERY == 0:
                progress(record.pts)
        md5 = file.md5()
    if not any(record.decoded for record in records):
        raise FileError("no frame decodes")
    rate = _rate(video, files)
    stream = StreamFacts(
        codec="mjpeg",
        width=decoder.width,
        height=decoder.height,
        pix_fmt=decoder.pix_fmt or "",
        time_base=1 / Fraction(rate).limit_denominator(1001),
        colours=tuple(int(getattr(decoder, name)) for name in COLOURS),
    )
    index = VideoIndex(files.packets, stream, b"", file.size, rate, md5=md5)
    return _row(video, files, index, records), index


def _decoded_size(decoder: av.VideoCodecContext, data: bytes) -> tuple[int, int] | None:
    """Decode a JPEG, and return its (width, height); None if no frame comes out."""
    with contextlib.suppress(av.error.FFmpegError):
        for frame in decoder.decode(packet_of(data)) if data else ():
            return frame.width, frame.height
    return None


def _rate(video: Video, files: FrameFiles) -> float:
    """Return the frames per second: the official rate, or the sheet's if only that fits.

    The official frames are on the clock of the CSVs. A lab may have extracted its own at the rate
    of the sheet; their number tells.
    """
    official = annotation_rate(video.video_id)
    if files.is_cut:
        return official
    misfit = {
        rate: abs(len(files.packets) / rate - video.duration) for rate in (official, video.fps)
    }
    only_sheet_fits = misfit[video.fps] <= FAR_SECONDS < misfit[official]
    return video.fps if only_sheet_fits else official


def _row(video: Video, files: FrameFiles, index: VideoIndex, records: list[Packet]) -> ScanRow:
    """Make the row of the scan table."""
    promised = round(video.duration * index.fps) if files.is_cut else 0
    ranges, reasons = judge(records, index, lost=max(0, promised - index.frames))
    if files.is_cut and promised <= index.frames:
        reasons.append(f"{TRUNCATED}the tar breaks off")
    return ScanRow(
        video.video_id,
        DAMAGED if reasons else OK,
        fps=index.fps,
        frames=sum(record.decoded for record in records),
        damaged=ranges,
        reason="; ".join(reasons),
        pictures=max([index.frames, *(stop for _, stop in ranges)]),
        judged=FRAMES,
        md5=index.md5,
        coded=index.frames,
    )
