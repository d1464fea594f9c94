"""One pass over a video stream: every packet, and what became of its picture."""

import errno
import time
import zlib
from collections.abc import Callable, Iterator

import av
from av.container import InputContainer

from epic100.base.disk import HashedFile
from epic100.scan.damage import CORRUPT, UNDECODED, Packet, blame_back
from epic100.scan.h264_stream import CodedStream, H264Stream
from epic100.scan.stills import Stills
from epic100.video.ffmpeg import decoder_limit, demuxed, new_entry, packet_of
from epic100.video.index import PacketRecorder, VideoIndex
from epic100.video.untimed import timed

PROGRESS_SECONDS = 0.5
# FFmpeg uses these words in its log. SEI is metadata, which changes no picture.
SIDE = "SEI"
LET_GO = "mmco: unref short failure"
INTRA = av.video.frame.PictureType.I


class StreamPass:
    """One pass over a stream: packets in decoding order, and what became of each.

    Attributes:
        packets: In decoding order.
        stills: Which pictures look like the one before.
        lost: Packets of the container's index that are missing.
        broke_off: Why the container could not be read further, or "".
        coded: What the coded bytes tell.
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
        self._without_time = 0
        self.coded = CodedStream()
        self._recorder = PacketRecorder(file, stream)
        self._decoder = self._open_decoder(max_pixels)

    def index(self) -> VideoIndex:
        """The index; key frames are the verified ones."""
        return self._recorder.index([p.is_key for p in self.packets])

    def run(self, progress: Callable[[int], None]) -> None:
        """Read and decode to the end. Raises MemoryError."""
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        # The decoder logs what it conceals: corrupted headers, lost references.
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as self._said:
                self._run(progress)
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)

    def _run(self, progress: Callable[[int], None]) -> None:
        # The index of an MP4 lists all packets from the start. A fragmented one lists those that
        # have been read.
        is_mp4 = "mp4" in self._container.format.name
        count = len(self._stream.index_entries) if is_mp4 else 0
        last, read = time.monotonic(), 0
        packets = demuxed(self._container, self._stream, self._broke)
        for packet in timed(packets, self._times):
            if not packet.size:
                continue
            read += 1
            self._take(packet)
            if time.monotonic() - last > PROGRESS_SECONDS:
                last = time.monotonic()
                progress(read)
        if not self._quick:
            self._decode(None, None)
        if not isinstance(self.coded, H264Stream):
            blame_back(self.packets)
        progress(read)
        self.lost = max(count - read, 0)

    def why_nothing(self) -> str:
        """Why there is no picture at all, or "" if there is one."""
        if not self.packets and self._without_time:
            return f"no picture has a time of presentation (in {self._container.format.name})"
        if not self.packets:
            return f"no picture in the file ({self.broke_off or 'it ends before the first'})"
        if not any(p.shown for p in self.packets):
            return "its edit list hides every picture"
        if not any(p.decoded for p in self.packets if p.is_key or not self._quick):
            return f"no picture decodes ({self.broke_off or 'no error given'})"
        return ""

    def _broke(self, why: str) -> None:
        self.broke_off = why

    def _take(self, packet: av.Packet) -> None:
        part, data, entry = self._recorder.part, bytes(packet), new_entry(packet)
        self._recorder.add(packet, data, entry)
        if packet.pts is None:
            self._without_time += 1
            return
        # Nothing in a new part depends on what came before.
        if self._recorder.part != part:
            self._decode(None, None)
            self._decoder.flush_buffers()
            self.coded.restart()
        dts = packet.pts if packet.dts is None else packet.dts
        seen = Packet(
            packet.pts,
            dts,
            packet.is_keyframe,
            self._recorder.shown,
            zlib.crc32(data),
            part=self._recorder.part,
        )
        self.packets.append(seen)
        self._by_pts[seen.pts] = seen
        if packet.is_corrupt:
            seen.blame(CORRUPT)
        taller = self.coded.examine(data, entry, seen)
        if taller is not None or not seen.shown:
            packet = _in_the_open(packet, taller or data)
        if not self._quick:
            self._decode(packet, seen)
        elif seen.is_key:
            self._decode(packet, seen)
            self._decode(None, seen)
            self._decoder.flush_buffers()
        else:
            seen.decoded = True  # A quick look cannot tell more.

    def _open_decoder(self, max_pixels: int) -> av.VideoCodecContext:
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

    def _decode(self, packet: av.Packet | None, seen: Packet | None) -> None:
        self._said.clear()
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError as error:
            # Too little memory is no damage.
            if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
                raise MemoryError("Cannot allocate memory") from error
            frames = []
            if seen is not None:
                seen.blame(UNDECODED)
        for frame in frames:
            owner = self._by_pts.get(frame.pts)
            if owner is None:
                continue
            owner.decoded = True
            owner.size = (frame.width, frame.height)
            owner.is_key &= frame.pict_type == INTRA
            if frame.is_corrupt:
                owner.blame(CORRUPT)
            if not self._quick:
                self.stills.see(frame, frame.height - 16 * self.coded.rows)
        if seen is None:
            return
        for level, _, text in self._said:
            # After a cut, references to be released may be missing, which is harmless.
            if level <= av.logging.ERROR and not (
                SIDE in text or (self.coded.after_break and LET_GO in text)
            ):
                seen.blame(UNDECODED)


def _in_the_open(packet: av.Packet, data: bytes) -> av.Packet:
    """Copy a packet, with this content, not hidden by an edit list.

    Hidden pictures must be decoded too, because later ones may depend on them.
    """
    fresh = packet_of(data)
    fresh.pts, fresh.dts, fresh.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return fresh
