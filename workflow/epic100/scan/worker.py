"""Decode every frame of one video and report the damaged ones.

Some damaged files make decoders hang, take all memory or crash: `guarded.call` does this in a
process that it can kill.

A video is `unreadable` if it cannot be opened, or has no video stream or no frame that decodes.
`epic100.scan.damage` lists what marks frames as damaged.
"""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from epic100.base.disk import HashedFile
from epic100.base.errors import DiskError
from epic100.base.guarded import FileError
from epic100.scan.damage import (
    CORRUPT,
    READ_ERRORS,
    UNDECODED,
    Packet,
    Scanned,
    judge,
    mark_late_defects,
)
from epic100.scan.frames import scan_frames
from epic100.scan.h264 import CodedStream
from epic100.video.build_index import PacketRecorder
from epic100.video.ffmpeg import (
    ENCODE,
    decoder_errors,
    decoder_limit,
    demuxed,
    make_mp4,
    opened,
    packet_of,
)
from epic100.video.reader import FrameError, VideoReader
from epic100.video.scan_table import DAMAGED, DECODER_ONLY, FULL, OK, ScanRow, outside
from epic100.video.sheet import Video, is_frames

# Progress is reported once in this number of seconds.
PROGRESS_SECONDS = 0.5
# These texts of FFmpeg's log are about metadata (SEI), which change no frame, and about a
# reference frame that was to be released, but is not there.
SEI_WORD, RELEASE_FAILED = "SEI", "mmco: unref short failure"


def scan_file(
    path: Path, video: Video, max_pixels: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Scan a video: decode it to its end, and find its damaged frames and its frame index.

    It is decoded on one thread, so that each error belongs to the packet that caused it.

    Args:
        path: The video file, or its extracted frames.
        video: The row of the sheet.
        max_pixels: Larger frames are not decoded.
        progress: Called with the number of packets read so far.

    Returns:
        `row`: the values of a `ScanRow` by column; `arrays`: the result of `VideoIndex.to_arrays`.

    Raises:
        FileError: The video is unreadable.
        MemoryError: The decoder asks for too much memory.
        DiskError: The disk fails.
    """
    if is_frames(path):
        scanned = scan_frames(path, video, max_pixels, progress)
    else:
        with opened(path, max_pixels) as (file, container, stream):
            scanned = StreamPass(file, container, stream, max_pixels).run(progress)
    ranges, reasons = judge(scanned)
    index = scanned.index
    # Damaged frames may have wrong times, so only the others count.
    is_undamaged = outside(ranges, index.frames)
    row = ScanRow(
        video.video_id,
        DAMAGED if reasons else OK,
        fps=index.fps,
        frames=sum(packet.decoded and packet.shown for packet in scanned.packets),
        damaged=ranges,
        reason="; ".join(reasons),
        timing="constant" if index.is_constant(is_undamaged) else "variable",
        pictures=index.frames + scanned.lost,
        judged=scanned.judged,
        md5=index.md5,
        coded=scanned.coded,
        stated=scanned.stated,
    )
    # One undamaged frame is read as a training does. Some codecs need more of the header than an
    # index has, and some pixels cannot become RGB.
    if is_undamaged.any():
        first_undamaged = int(np.argmax(is_undamaged))
        try:
            VideoReader(path, index).get_frames([first_undamaged])
        except DiskError:
            raise
        except (FrameError, ValueError) as error:
            raise FileError(
                f"frames ({index.stream.pix_fmt}) of {index.stream.codec} that cannot be read; "
                f"{make_mp4(ENCODE)}"
            ) from error
    return {"row": vars(row), "arrays": index.to_arrays()}


class StreamPass:
    """Reads and decodes all packets of a video stream once, and records the defects of each."""

    def __init__(
        self,
        file: HashedFile,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        max_pixels: int,
    ):
        """Prepare the pass over an open file; `run` makes it.

        Args:
            file: The video file.
            container: The container of the file.
            stream: Its video stream.
            max_pixels: Larger frames are rejected.
        """
        self._container, self._stream = container, stream
        self._packets: list[Packet] = []
        self._packet_of_pts: dict[int | None, Packet] = {}
        context = stream.codec_context
        self._coded = CodedStream(context.codec.canonical_name, context.extradata or b"")
        self._recorder = PacketRecorder(file, stream)
        # The decoder must report as many errors as it can. For H.264 that takes another header, in
        # which frames have more rows (scan/h264.py), and so a decoder of its own.
        if self._coded.settings:
            context = av.CodecContext.create("h264", "r")
            context.extradata = self._coded.extradata
        # On one thread, each error in the log is about the packet that was decoded last.
        context.thread_type, context.thread_count = "NONE", 1
        # Errors are reported only if concealment is on, and its cheapest type is enough. Errors in
        # the added rows count for nothing. Deblocking finds no errors.
        context.options = decoder_limit(max_pixels) | {
            "ec": "favor_inter",
            "skip_bottom": str(self._coded.rows),
            "skip_loop_filter": "all",
        }
        self._decoder = context

    def run(self, progress: Callable[[int], None]) -> Scanned:
        """Read and decode the stream to its end, with the decoder's log captured.

        Args:
            progress: Called with the number of packets read so far.

        Raises:
            FileError: No frame of the file can be used.
            MemoryError: The decoder asks for too much memory.
        """
        packets, stream, errors = self._packets, self._stream, list[str]()
        # The header lists all packets. If the file is fragmented, the list only has those that have
        # been read.
        listed_count = len(stream.index_entries)
        last_report = time.monotonic()
        with decoder_errors() as self._decoder_log:
            for packet in demuxed(self._container, stream, errors.append):
                if packet.size:
                    self._add(packet)
                if time.monotonic() - last_report > PROGRESS_SECONDS:
                    last_report = time.monotonic()
                    progress(len(packets))
            # The decoder gives the frames that it holds back.
            self._decode(packet=None, record=None)
        if not self._coded.is_arithmetic:
            mark_late_defects(packets)
        progress(len(packets))
        # A file of which no frame can be used is unreadable.
        last_error = errors[-1] if errors else ""
        if not packets:
            raise FileError(f"no frame in the file ({last_error or 'it ends before the first'})")
        if not any(record.shown for record in packets):
            raise FileError("its edit list hides every frame")
        if not any(record.decoded for record in packets):
            raise FileError(f"no frame decodes ({last_error or 'no error given'})")
        return Scanned(
            packets,
            # The key frames of the index are those that refer to no frame.
            self._recorder.index([record.is_key for record in packets]),
            judged=FULL if self._coded.is_arithmetic else DECODER_ONLY,
            coded=stream.frames or len(packets),
            lost=max(listed_count - len(packets), 0),
            broke_off=f"{READ_ERRORS}{last_error}" if last_error else "",
            stated=round(float((stream.duration or 0) * (stream.time_base or 0)), 6),
        )

    def _add(self, packet: av.Packet) -> None:
        """Record a packet, check its bytes, and decode it."""
        data = bytes(packet)
        self._recorder.add(packet, data)
        assert packet.pts is not None, "the recorder rejects a packet without a time"
        record = Packet(packet.pts, packet.is_keyframe, shown=not packet.is_discard)
        self._packets.append(record)
        # The decoder gives a frame later than its packet, and the pts tells whose it is.
        self._packet_of_pts[record.pts] = record
        if packet.is_corrupt:
            record.mark(CORRUPT)
        other_data = self._coded.examine(data, record)
        # A decoder drops hidden frames, but the scan must know whether they decode, since later
        # ones may depend on them. A new packet has no flag but the one of a key frame.
        if other_data is not None or not record.shown:
            copy = packet_of(other_data or data)
            copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            packet = copy
        self._decode(packet, record)

    def _decode(self, packet: av.Packet | None, record: Packet | None) -> None:
        """Decode a packet, and set which frames come out and which have defects.

        Args:
            packet: The packet; None: the decoder gives all frames that it holds back.
            record: The packet that is marked if the decoder reports an error; None: errors are
                ignored.

        Raises:
            MemoryError: The decoder asks for too much memory.
        """
        self._decoder_log.clear()
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError as error:
            # A lack of memory is no damage.
            if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
                raise MemoryError("Cannot allocate memory") from error
            frames = []
            if record is not None:
                record.mark(UNDECODED)
        for frame in frames:
            source = self._packet_of_pts.get(frame.pts)
            if source is None:
                continue
            source.decoded = True
            source.size = (frame.width, frame.height)
            # The container may mark a frame as a key frame although it refers to others.
            source.is_key &= frame.pict_type == av.video.frame.PictureType.I
            if frame.is_corrupt:
                source.mark(CORRUPT)
        # The errors that the decoder has logged are about this packet.
        if record is None:
            return
        for level, _, text in self._decoder_log:
            # After a cut, references that are to be released may be missing, which is harmless.
            is_harmless = SEI_WORD in text or (self._coded.after_break and RELEASE_FAILED in text)
            if level <= av.logging.ERROR and not is_harmless:
                record.mark(UNDECODED)
