"""One pass over a video stream: read every packet, decode it, and record its defects."""

import errno
import time
from collections.abc import Callable

import av

from epic100.base.disk import HashedFile
from epic100.scan.damage import CORRUPT, UNDECODED, Packet, blame_back
from epic100.scan.h264_stream import CodedStream, H264Stream
from epic100.video.ffmpeg import decoder_errors, decoder_limit, demuxed, packet_of
from epic100.video.index import PacketRecorder, VideoIndex

# Progress is reported once in this number of seconds.
PROGRESS_SECONDS = 0.5
# These texts of FFmpeg's log are about metadata (SEI), which change no frame, and about a
# reference frame that was to be released, but is not there.
SEI_WORD, RELEASE_FAILED = "SEI", "mmco: unref short failure"


class StreamPass:
    """Reads and decodes all packets of a video stream once, and records the defects of each.

    Attributes:
        packets: The packets that have a presentation time, in decoding order.
        lost: Number of packets that the container lists and that are not in the file.
        broke_off: Text of the last error of the container while it was read, or "".
        coded: Checks the coded bytes of each packet.
    """

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
        self.packets: list[Packet] = []
        self.lost = 0
        self.broke_off = ""
        self._container = container
        self._stream = stream
        self._packet_of_pts: dict[int | None, Packet] = {}
        context = stream.codec_context
        # `_open_decoder` replaces it if the stream is H.264.
        self.coded = CodedStream(context.codec.canonical_name, context.extradata or b"")
        self._recorder = PacketRecorder(file, stream)
        self._decoder = self._open_decoder(max_pixels)

    def index(self) -> VideoIndex:
        """Make the frame index of the file; its key frames are those that refer to no frame."""
        return self._recorder.index([p.is_key for p in self.packets])

    def run(self, progress: Callable[[int], None]) -> None:
        """Read and decode the stream to its end, with the decoder's log captured.

        Args:
            progress: Called with the number of packets read so far.

        Raises:
            MemoryError: The decoder asks for too much memory.
        """
        with decoder_errors() as self._decoder_log:
            self._read_stream(progress)

    def _read_stream(self, progress: Callable[[int], None]) -> None:
        """Record and decode every packet of the stream, and count the missing ones."""
        # The header lists all packets. If the file is fragmented, the list only has those that have
        # been read.
        listed_count = len(self._stream.index_entries)
        read_count = 0
        last_report = time.monotonic()
        for packet in demuxed(self._container, self._stream, self._note_break):
            if not packet.size:
                continue
            read_count += 1
            self._add(packet)
            if time.monotonic() - last_report > PROGRESS_SECONDS:
                last_report = time.monotonic()
                progress(read_count)
        # The decoder gives the frames that it holds back.
        self._decode(packet=None, record=None)
        if not self.coded.is_arithmetic:
            blame_back(self.packets)
        progress(read_count)
        self.lost = max(listed_count - read_count, 0)

    def why_nothing(self) -> str:
        """Explain why no frame of the file can be used; "" if one can be used."""
        if not self.packets:
            return f"no frame in the file ({self.broke_off or 'it ends before the first'})"
        if not any(p.shown for p in self.packets):
            return "its edit list hides every frame"
        if not any(p.decoded for p in self.packets):
            return f"no frame decodes ({self.broke_off or 'no error given'})"
        return ""

    def _note_break(self, why: str) -> None:
        """Set `broke_off` to the text of an error in the container."""
        self.broke_off = why

    def _add(self, packet: av.Packet) -> None:
        """Record a packet, check its bytes, and decode it."""
        data = bytes(packet)
        self._recorder.add(packet, data)
        assert packet.pts is not None, "the recorder rejects a packet without a time"
        record = Packet(pts=packet.pts, is_key=packet.is_keyframe, shown=self._recorder.shown)
        self.packets.append(record)
        # The decoder gives a frame later than its packet, and the pts tells whose it is.
        self._packet_of_pts[record.pts] = record
        if packet.is_corrupt:
            record.blame(CORRUPT)
        other_data = self.coded.examine(data, record)
        if other_data is not None or not record.shown:
            packet = _unhidden_copy(packet, other_data or data)
        self._decode(packet, record)

    def _open_decoder(self, max_pixels: int) -> av.VideoCodecContext:
        """Make a decoder that reports as many errors as it can; set `coded` for H.264."""
        context = self._stream.codec_context
        if context.name == "h264":
            try:
                self.coded = H264Stream(context.extradata or b"")
                context = av.CodecContext.create("h264", "r")
                context.extradata = self.coded.extradata
            except ValueError:
                # The parameter sets are corrupted or unusual, so only the decoder finds damage.
                pass
        # On one thread, each error in the log is about the packet that was decoded last.
        context.thread_type = "NONE"
        context.thread_count = 1
        # Errors are reported only if concealment is on, and its cheapest type is enough. Deblocking
        # finds no errors.
        context.options = decoder_limit(max_pixels) | {
            "ec": "favor_inter",
            "skip_bottom": str(self.coded.rows),
            "skip_loop_filter": "all",
        }
        return context

    def _decode(self, packet: av.Packet | None, record: Packet | None) -> None:
        """Decode a packet, and set which frames come out and which have defects.

        Args:
            packet: The packet; None: the decoder gives all frames that it holds back.
            record: The packet whose defect an error of the decoder is; None: errors are ignored.

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
                record.blame(UNDECODED)
        for frame in frames:
            source = self._packet_of_pts.get(frame.pts)
            if source is None:
                continue
            source.decoded = True
            source.size = (frame.width, frame.height)
            # The container may call a frame a key frame that refers to others.
            source.is_key &= frame.pict_type == av.video.frame.PictureType.I
            if frame.is_corrupt:
                source.blame(CORRUPT)
        for level, _, text in self._decoder_log:
            # After a cut, references that are to be released may be missing, which is harmless.
            is_harmless = SEI_WORD in text or (self.coded.after_break and RELEASE_FAILED in text)
            if record is not None and level <= av.logging.ERROR and not is_harmless:
                record.blame(UNDECODED)


def _unhidden_copy(packet: av.Packet, data: bytes) -> av.Packet:
    """Copy a packet, with `data` as its bytes, and without the flag that its frame is hidden.

    A decoder drops hidden frames, but the scan must know whether they decode, since later ones
    may depend on them. The copy is a new packet, which has none of the flags but that of a key.

    Args:
        packet: The packet of the file.
        data: The bytes to decode: as they are in the packet, or what `CodedStream.examine` made of
            them.
    """
    copy = packet_of(data)
    copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return copy
