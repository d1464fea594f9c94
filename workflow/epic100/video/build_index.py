"""Make the frame index of a file: read its packets, and the parameters of its video stream."""

import contextlib
import itertools
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np

from epic100.base.disk import HashedFile
from epic100.base.errors import shown
from epic100.base.guarded import FileError, call
from epic100.settings.data import ScanLimits
from epic100.video.ffmpeg import (
    COPY,
    ENCODE,
    MAX_PIXELS,
    begins_entry,
    demuxed,
    make_mp4,
    opened,
)
from epic100.video.index import PACKET, FrameError, StreamFacts, VideoIndex

# These are the limits for the index of one file, for which no packet is decoded.
LIMITS = ScanLimits(stall_seconds=20, memory_mib=1024)
# The maximum seconds of computing to index a file. They grow with the size of the file.
LIMIT_SECONDS = 600
# Progress is reported once in this number of packets.
PROGRESS_EVERY = 1000
# Number of bytes that are read at once to compare packets with the file.
_BUFFER_SIZE = 1 << 16
# Entry n has the signs of the values a, b, c, d of the display matrix of n quarter turns clockwise.
TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
# The display matrix is searched in the frames of this number of packets.
FIRST_PACKETS = 100


def build_index(path: str | os.PathLike) -> VideoIndex:
    """Make the index of a file without a scan, in a process with limits on memory and time.

    Raises:
        FrameError: The file has no video that can be read, or needs more than `LIMITS` allow.
        ProcessError: The disk or the machine fails, not the file.
    """
    try:
        arrays = call(index_packets, Path(path), limits=LIMITS, seconds=LIMIT_SECONDS)
    except FileError as error:
        raise FrameError(f"{shown(path)}: {error}") from error
    return VideoIndex.from_arrays(arrays)


def index_packets(path: Path, progress: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Read all packets of a file without decoding them, and return the arrays of its index.

    Args:
        path: The video file.
        progress: Called with the number of packets that were read.

    Raises:
        FileError: The file has no video that can be read, or cannot be read to its end.
        DiskError: The disk fails.
    """
    with opened(path) as (file, container, stream):
        recorder = PacketRecorder(file, stream)
        for number, packet in enumerate(demuxed(container, stream, reject)):
            if packet.size:
                recorder.add(packet, bytes(packet))
            if number % PROGRESS_EVERY == 0:
                progress(number)
        index = recorder.index()
    if not index.frames:
        raise FileError("no frames in this file")
    return index.to_arrays()


def reject(why: str) -> NoReturn:
    """Raise FileError for an error of the container: an index or a copy needs all packets."""
    raise FileError(f"reading it failed: {why}")


class PacketRecorder:
    """Collects the packets of a stream in decoding order, and makes a frame index of them.

    The file is read a second time, without the demuxer, and each packet is compared with the bytes
    at its offset. Only this proves that a reader may do the same. It takes little time, since the
    bytes are still in the system's cache.
    """

    def __init__(self, file: HashedFile, stream: av.VideoStream):
        """Start before the first packet.

        Args:
            file: The video file.
            stream: The video stream of the file, which FFmpeg has open.

        Raises:
            FileError: Players mirror the frames, or turn them by another angle than quarter turns.
        """
        context = stream.codec_context
        self._extradata = bytes(context.extradata or b"")
        turns = _quarter_turns(file.name, max(MAX_PIXELS, context.width * context.height))
        self._stream = StreamFacts.of(context, Fraction(stream.time_base or 0), turns)
        self._rows: list[tuple[int, ...]] = []  # A row of `PACKET` for each packet.
        self._file = file
        # These are the bytes that were read last, and their offset in the file.
        self._buffer, self._buffer_start = b"", 0
        self._last_offset, self._latest_pts = -1, -(2**62)

    def add(self, packet: av.Packet, data: bytes) -> None:
        """Record a packet.

        Args:
            packet: The packet, as the demuxer returns it.
            data: Its bytes, at least one.

        Raises:
            FileError: The packet is not at its place, or is not coded as the ones before.
            DiskError: The file cannot be read.
        """
        # A reader will find the same bytes at the offset.
        offset = -1 if packet.pos is None else packet.pos
        if packet.pts is None or offset < 0 or not self._is_at(offset, data):
            raise FileError(f"its packets are not complete at their places; {make_mp4(COPY)}")
        if self._begins_part(packet, packet.pts, offset) or begins_entry(packet):
            raise FileError(f"it joins several films or parts; {make_mp4(ENCODE)}")
        self._last_offset = offset
        if not packet.is_discard:
            self._latest_pts = max(self._latest_pts, packet.pts)
        # Nothing comes before the first packet, so decoding can begin there whatever it is.
        is_key = packet.is_keyframe or not self._rows
        crc = zlib.crc32(data) if is_key else 0
        is_shown = not packet.is_discard
        no_frame_yet = -1
        self._rows.append((offset, packet.pts, len(data), crc, is_key, is_shown, no_frame_yet))

    def _begins_part(self, packet: av.Packet, pts: int, offset: int) -> bool:
        """Whether another part of the track begins, as an edit list may show several.

        Each part begins with a key frame that is further up in the file, or hidden and not later
        than the frames before it.
        """
        is_back_in_time = packet.is_discard and pts <= self._latest_pts
        return packet.is_keyframe and (offset < self._last_offset or is_back_in_time)

    def _is_at(self, offset: int, data: bytes) -> bool:
        """Whether the bytes of a packet are in the file at an offset.

        Packets come in the order of the file, so a piece of it is read and kept for the next ones.
        """
        buffer_end = self._buffer_start + len(self._buffer)
        is_buffered = self._buffer_start <= offset and offset + len(data) <= buffer_end
        if not is_buffered:
            self._buffer = self._file.read_at(offset, max(len(data), _BUFFER_SIZE))
            self._buffer_start = offset
        return self._buffer.startswith(data, offset - self._buffer_start)

    def index(self, keys: Sequence[bool] | None = None) -> VideoIndex:
        """Make the frame index of all packets so far.

        The rest of the file is read for the MD5.

        Args:
            keys: For each packet, whether it refers to no other frame; None: the flags of the
                container are trusted.
        """
        packets = np.array(self._rows, PACKET)
        if keys is not None:
            # Decoding can begin at the first packet, whatever it is.
            packets["key"][1:] = keys[1:]
        # Row i of the column `frame` names the packet of frame i, so it has no more than F entries.
        shown_packets = np.flatnonzero(packets["shown"])
        in_order = shown_packets[np.argsort(packets["pts"][shown_packets], kind="stable")]
        packets["frame"][: len(in_order)] = in_order
        pts = packets["pts"][in_order]
        return VideoIndex(
            packets=packets,
            stream=self._stream,
            extradata=self._extradata,
            file_size=self._file.size,
            fps=measured_rate(pts, self._stream.time_base),
            late=max(0.0, float(pts[0] * self._stream.time_base)) if len(pts) else 0.0,
            md5=self._file.md5(),
        )


def _quarter_turns(path: str, max_pixels: int) -> int:
    """Find by how many quarter turns clockwise players turn the frames of a file.

    Each container states this in its own form. FFmpeg gives it as the display matrix of each
    decoded frame, so the first frame is decoded.

    Args:
        path: The video file.
        max_pixels: Larger frames are rejected.

    Raises:
        FileError: Players do something else with the frames, e.g. mirror them.
    """
    matrix: Any = None
    # A second decoder is used, so that the stream of the caller stays at its first packet.
    with opened(path, max_pixels) as (_, container, stream):
        for packet in itertools.islice(demuxed(container, stream), FIRST_PACKETS):
            # A packet may be damaged. Then the next one is tried.
            with contextlib.suppress(av.error.FFmpegError):
                if frames := packet.decode():
                    matrix = frames[0].side_data.get("DISPLAYMATRIX")
                    break
    if matrix is None:
        return 0
    # FFmpeg has nine integers of 4 bytes; the first two rows are a, b, u and c, d, v.
    values = np.array(struct.unpack_from("=5i", bytes(matrix)))[[0, 1, 3, 4]]
    # A matrix may also scale frames, which changes the values but not their signs. A value of
    # less than a hundredth of the largest one counts as 0, since it comes from rounding.
    values[np.abs(values) <= np.abs(values).max() / 100] = 0
    signs = tuple(np.sign(values).tolist())
    if signs not in TURNS:
        raise FileError(
            "its note of how players turn or mirror frames is no quarter turn; expected one, or "
            "none: encode the video again as it is to be seen"
        )
    return TURNS.index(signs)


def measured_rate(pts: np.ndarray, time_base: Fraction) -> float:
    """Measure the frame rate: frames per second over all steps that are not gaps.

    Args:
        pts: int [F], ascending: the presentation times of the frames.
        time_base: Seconds per unit of time.

    Returns:
        The rate; 0 if there are too few frames, or if all have one time.
    """
    if len(pts) < 2:
        return 0.0
    steps = np.diff(pts)
    # A step over one and a half times the usual one is a gap, which would lower the rate.
    steps = steps[steps <= 1.5 * np.median(steps)]
    mean_seconds = Fraction(int(steps.sum()), len(steps)) * time_base
    return float(1 / mean_seconds) if mean_seconds else 0.0
