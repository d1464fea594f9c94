"""One pass over a video stream: read every packet, decode it, and record its faults."""

import errno
import time
import zlib
from collections.abc import Callable, Iterator

import av
from av.container import InputContainer

from epic100.base.disk import HashedFile
from epic100.scan.damage import CORRUPT, UNDECODED, Packet, blame_back
from epic100.scan.h264 import MACROBLOCK
from epic100.scan.h264_stream import CodedStream, H264Stream
from epic100.scan.stills import Stills
from epic100.video.ffmpeg import decoder_limit, demuxed, new_entry, packet_of
from epic100.video.index import PacketRecorder, VideoIndex
from epic100.video.untimed import timed

PROGRESS_SECONDS = 0.5
# FFmpeg uses these words in its log. SEI is metadata, which changes no picture. The other words say
# that a reference picture was to be released, and is not there.
SEI_WORD, RELEASE_FAILED = "SEI", "mmco: unref short failure"
INTRA = av.video.frame.PictureType.I


class StreamPass:
    """One pass over a stream: reads and decodes all its packets, and records the faults of each.

    Args:
        file: The file, open.
        container: Its container.
        stream: Its video stream.
        quick: Whether only key frames are decoded.
        max_pixels: Larger pictures are refused.
        times: Presentation times of the packets, if the container does not state them.

    Attributes:
        packets: Records of the packets that have a time, in decoding order.
        stills: Finds the pictures that look like the one before.
        lost: Number of packets in the container's index that are missing.
        broke_off: The last error of the container while it was read, or "".
        coded: Checks the coded bytes of each packet.
    """

    def __init__(
        self,
        file: HashedFile,
        container: InputContainer,
        stream: av.VideoStream,
        quick: bool,
        max_pixels: int,
        times: Iterator[int] | None = None,
    ):
        self.packets: list[Packet] = []
        self.stills = Stills()
        self.lost = 0
        self.broke_off = ""
        self._container, self._stream, self._quick = container, stream, quick
        self._times = times
        self._by_pts: dict[int | None, Packet] = {}
        self._count_without_time = 0
        self.coded = CodedStream()
        self._recorder = PacketRecorder(file, stream)
        self._decoder = self._open_decoder(max_pixels)

    def index(self) -> VideoIndex:
        """The frame index of the file; its key frames are those that decoding has confirmed."""
        return self._recorder.index([p.is_key for p in self.packets])

    def run(self, progress: Callable[[int], None]) -> None:
        """Read and decode the stream to its end, with the decoder's log captured.

        Args:
            progress: Called with the number of packets read so far.

        Raises:
            MemoryError: The decoder asks for too much memory.
        """
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        # The decoder logs what it conceals: corrupted headers, lost references.
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as self._decoder_log:
                self._read_stream(progress)
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)

    def _read_stream(self, progress: Callable[[int], None]) -> None:
        """Record and decode every packet of the stream; then count those that are lost."""
        # The index of an MP4 lists all packets from the start. A fragmented one lists those that
        # have been read.
        is_mp4 = "mp4" in self._container.format.name
        listed_count = len(self._stream.index_entries) if is_mp4 else 0
        last_report, read_count = time.monotonic(), 0
        packets = demuxed(self._container, self._stream, self._note_break)
        for packet in timed(packets, self._times):
            if not packet.size:
                continue
            read_count += 1
            self._add(packet)
            if time.monotonic() - last_report > PROGRESS_SECONDS:
                last_report = time.monotonic()
                progress(read_count)
        if not self._quick:
            self._decode(None, None)
        if not isinstance(self.coded, H264Stream):
            blame_back(self.packets)
        progress(read_count)
        self.lost = max(listed_count - read_count, 0)

    def why_nothing(self) -> str:
        """Say why no picture of the file can be used, or "" if there is one."""
        if not self.packets and self._count_without_time:
            return f"no picture has a time of presentation (in {self._container.format.name})"
        if not self.packets:
            return f"no picture in the file ({self.broke_off or 'it ends before the first'})"
        if not any(p.shown for p in self.packets):
            return "its edit list hides every picture"
        if not any(p.decoded for p in self.packets if p.is_key or not self._quick):
            return f"no picture decodes ({self.broke_off or 'no error given'})"
        return ""

    def _note_break(self, why: str) -> None:
        """Keep the text of an error in the container; a later error replaces it."""
        self.broke_off = why

    def _add(self, packet: av.Packet) -> None:
        """Record a packet, check its bytes, and decode it."""
        part_before, data, entry = self._recorder.part, bytes(packet), new_entry(packet)
        self._recorder.add(packet, data, entry)
        if packet.pts is None:
            self._count_without_time += 1
            return
        # Nothing in a new part depends on the pictures before, so the decoder starts anew.
        if self._recorder.part != part_before:
            self._decode(None, None)
            self._decoder.flush_buffers()
            self.coded.restart()
        dts = packet.pts if packet.dts is None else packet.dts
        record = Packet(
            packet.pts,
            dts,
            packet.is_keyframe,
            self._recorder.shown,
            zlib.crc32(data),
            part=self._recorder.part,
        )
        self.packets.append(record)
        # The decoder gives a picture later than its packet, and the pts tells whose it is.
        self._by_pts[record.pts] = record
        if packet.is_corrupt:
            record.blame(CORRUPT)
        taller = self.coded.examine(data, entry, record)
        if taller is not None or not record.shown:
            packet = _unhidden_copy(packet, taller or data)
        if not self._quick:
            self._decode(packet, record)
        elif record.is_key:
            # The key frame must come out now, since no packet follows that would push it out.
            self._decode(packet, record)
            self._decode(None, record)
            self._decoder.flush_buffers()
        else:
            record.decoded = True  # A quick look cannot tell more.

    def _open_decoder(self, max_pixels: int) -> av.VideoCodecContext:
        """Set up a decoder that reports as many errors as it can. Sets `coded` for H.264."""
        context = self._stream.codec_context
        if context.name == "h264":
            try:
                self.coded = H264Stream(context.extradata or b"")
                context = av.CodecContext.create("h264", "r")
                context.extradata = self.coded.extradata
            except ValueError:
                # The plain decoder judges another framing of H.264, and corrupted settings.
                pass
        context.thread_type = "NONE"
        context.thread_count = 1
        # Errors are reported only if concealment is on; its cheapest kind is enough. Deblocking
        # finds no errors, and neither do transforms if nobody looks at the picture.
        context.options = decoder_limit(max_pixels) | {
            "ec": "favor_inter",
            "skip_bottom": str(self.coded.rows),
            "skip_loop_filter": "all",
            "skip_idct": "all" if self._quick else "default",
        }
        return context

    def _decode(self, packet: av.Packet | None, record: Packet | None) -> None:
        """Decode a packet, and note in the records which pictures come out and which have faults.

        Args:
            packet: The packet; None: the decoder gives all pictures that it holds back.
            record: The record that is blamed for errors of the decoder; None: nothing is blamed.

        Raises:
            MemoryError: The decoder asks for too much memory.
        """
        self._decoder_log.clear()
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError as error:
            # Too little memory is no damage.
            if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
                raise MemoryError("Cannot allocate memory") from error
            frames = []
            if record is not None:
                record.blame(UNDECODED)
        for frame in frames:
            picture_record = self._by_pts.get(frame.pts)
            if picture_record is None:
                continue
            picture_record.decoded = True
            picture_record.size = (frame.width, frame.height)
            # The container may call a picture a key frame that refers to others.
            picture_record.is_key &= frame.pict_type == INTRA
            if frame.is_corrupt:
                picture_record.blame(CORRUPT)
            if not self._quick:
                self.stills.see(frame, frame.height - MACROBLOCK * self.coded.rows)
        if record is None:
            return
        for level, _, text in self._decoder_log:
            # After a cut, references to be released may be missing, which is harmless.
            if level <= av.logging.ERROR and not (
                SEI_WORD in text or (self.coded.after_break and RELEASE_FAILED in text)
            ):
                record.blame(UNDECODED)


def _unhidden_copy(packet: av.Packet, data: bytes) -> av.Packet:
    """Copy a packet, with `data` as its bytes and without the mark that an edit list hides it.

    Hidden pictures must be decoded too, because later ones may depend on them.
    """
    copy = packet_of(data)
    copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return copy
