"""One pass over a video stream: every packet, and what became of its picture."""

import time
import zlib
from collections.abc import Callable, Iterator

import av
from av.container import InputContainer

from epic100.scan import h264
from epic100.scan.h264_slice import SliceHeaders
from epic100.scan.h264_vui import usability
from epic100.scan.numbering import Numbering
from epic100.scan.oddities import Looks
from epic100.scan.packet_checks import (
    BROKEN_UNITS,
    CORRUPT,
    FORBIDDEN,
    NUMBERING,
    UNDECODED,
    WRONG_TIME,
    Packet,
)  # fmt: skip
from epic100.scan.packet_copies import (
    check_memory,
    in_the_open,
    with_new_sets,
    with_taller_sets,
)
from epic100.video.ffmpeg import error_text
from epic100.video.index import PacketRecorder, VideoIndex
from epic100.video.watched_file import WatchedFile

PROGRESS_SECONDS = 0.5
MACROBLOCKS_BELOW = 2048  # added below the picture: room for garbage to run into
AHEAD_SECONDS = 10.0  # how much pts - dts may change between packets
SIDE = "SEI"  # in a log message: about metadata, which changes no picture
OVERREAD, LET_GO = "bytestream overread", "mmco: unref short failure"  # FFmpeg's words
READ_TRIES = 8  # input errors in a row before reading is given up
_SLICES = (h264.SLICE, h264.IDR)
INTRA = av.video.frame.PictureType.I


class StreamPass:
    """One pass over a stream: packets in decoding order, and what became of each."""

    def __init__(
        self, file: WatchedFile, container: InputContainer, stream: av.VideoStream, quick: bool
    ):
        self.packets: list[Packet] = []
        self.looks = Looks()
        self.looked = 0
        self.wrong_keys = 0
        self.lost = 0  # packets of the container's index that are missing
        self.broke_off = ""
        self._container, self._stream, self._quick = container, stream, quick
        self._by_pts: dict[int | None, Packet] = {}
        self._without_time = 0
        self._far = AHEAD_SECONDS / float(stream.time_base or 1)
        self._time_before: tuple[int, int] | None = None
        self._arithmetic = False
        self._settings: h264.StreamSettings | None = None
        self._recorder = PacketRecorder(file, stream)
        self._open_decoder()

    def index(self) -> VideoIndex:
        """The index; key frames are the verified ones."""
        return self._recorder.index([p.is_key for p in self.packets])

    def run(self, progress: Callable[[int], None]) -> None:
        """Read and decode to the end. Raises MemoryError."""
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        # The decoder logs what it conceals: corrupted headers, lost references, and (at debug
        # level) a slice that asks for more bytes than it has.
        av.logging.set_level(av.logging.DEBUG)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as self._said:
                self._run(progress)
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)

    def _run(self, progress: Callable[[int], None]) -> None:
        # The index of an MP4 lists all packets from the start; in a fragmented one, those read.
        mp4 = "mp4" in self._container.format.name
        count = len(self._stream.index_entries) if mp4 else 0
        last, read = time.monotonic(), 0
        for packet in self._read():
            read += 1
            self._take(packet)
            if time.monotonic() - last > PROGRESS_SECONDS:
                last = time.monotonic()
                progress(read)
        if not self._quick:
            self._decode(None, None)
        if self._settings is not None:
            self._headers.blame()
        progress(read)
        self.lost = max(count - read, 0)

    @property
    def judges_itself(self) -> bool:
        """Whether the stream's own slices and numbers are read, in addition to decoder errors.

        Without arithmetic coding, a flipped bit may change only a sign, which no syntax reveals.
        """
        return self._settings is not None and self._arithmetic

    @property
    def coded_fps(self) -> float:
        """Frame rate that the encoder noted in the stream; 0 if none."""
        try:
            (sps, _), *_ = h264.extradata_sps(self._stream.codec_context.extradata or b"")
            return usability(sps).fixed_fps if self._settings else 0.0
        except ValueError:
            return 0.0

    @property
    def order_span(self) -> int:
        """Order counts of pictures are coded modulo this; 0 if there are none."""
        return 1 << self._settings.poc_bits if self._settings and self._settings.poc_bits else 0

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

    def _read(self) -> Iterator[av.Packet]:
        """Packets with content. Reading goes on after an error of the container."""
        tries = 0
        while tries < READ_TRIES:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:
                        tries = 0
                        yield packet
                return
            except av.error.FFmpegError as error:
                self.broke_off = error_text(error)
                tries += 1

    def _take(self, packet: av.Packet) -> None:
        self._recorder.add(packet)
        if packet.pts is None:
            self._without_time += 1
            return
        dts = packet.pts if packet.dts is None else packet.dts
        seen = Packet(packet.pts, dts, packet.is_keyframe, shown=not packet.is_discard)
        seen.sequence = self._numbering.sequence if self._settings else 0
        self.packets.append(seen)
        self._by_pts[seen.pts] = seen
        if packet.dts is not None:
            self._check_time(seen)
        if packet.is_corrupt:
            seen.blame(CORRUPT)
        packet = self._examine(packet, seen)
        if not self._quick:
            self._decode(packet, seen)
        elif seen.is_key:
            self._decode(packet, seen)
            self._decode(None, seen)
            self._decoder.flush_buffers()
        else:
            seen.decoded = True  # as far as a quick look can see

    def _check_time(self, seen: Packet) -> None:
        now = (seen.dts, seen.pts - seen.dts)
        dts, ahead = self._time_before or now
        self._time_before = now
        # At the start of one of several edits, earlier hidden pictures may come first.
        backwards = now[0] < dts and (seen.shown or not seen.is_key)
        if backwards or abs(now[1] - ahead) > self._far:
            seen.blame(WRONG_TIME)

    def _open_decoder(self) -> None:
        context, rows = self._stream.codec_context, 0
        try:
            if context.name == "h264":
                settings, self._length_size = h264.read_extradata(context.extradata)
                self._arithmetic = h264.is_arithmetic(context.extradata or b"")
                rows = -(-MACROBLOCKS_BELOW // settings.width)
                rows += rows % 2  # the rows of an interlaced picture come in pairs
                taller = h264.taller_extradata(context.extradata or b"", rows)
                context = av.CodecContext.create("h264", "r")
                context.extradata = taller
                self._settings = settings
                self._numbering = Numbering(settings)
                self._headers = SliceHeaders(self._stream.codec_context.extradata or b"")
        except ValueError:
            pass  # another framing of H.264, or corrupted settings: the plain decoder decides
        context.thread_type = "NONE"
        context.thread_count = 1
        # Errors are reported only if concealment is on; its cheapest kind is enough. Deblocking
        # finds no errors, and neither do transforms if nobody looks at the picture.
        context.options = {
            "ec": "favor_inter",
            "skip_bottom": str(rows),
            "skip_loop_filter": "all",
            "skip_idct": "all" if self._quick else "default",
        }
        self._decoder, self._rows = context, rows

    def _examine(self, packet: av.Packet, seen: Packet) -> av.Packet:
        """Check the bytes before decoding; return the packet to decode, its picture made taller."""
        data = memoryview(packet)
        seen.checksum = zlib.crc32(data)
        if self._settings is None:
            return packet if seen.shown else in_the_open(packet, data)
        data = with_new_sets(packet, data, self._length_size)
        units = h264.nal_units(data, self._length_size)
        if units is None:
            seen.blame(BROKEN_UNITS)
            return packet
        if any(data[start] & 31 == h264.SPS for start, _ in units[:-1]):
            data, units = self._with_taller_settings(data, units)
        first = True
        for start, stop in units:
            kind = data[start] & 31
            if kind == h264.PPS:
                self._headers.take_set(bytes(data[start:stop]))
            if kind in _SLICES:
                nal = bytes(data[start:stop])
                self._headers.check(nal, self._settings, seen)
                if first:
                    self._follow(nal[: h264.HEADER_BYTES], seen)
                    first = False
                if h264.has_forbidden_bytes(nal):
                    seen.blame(FORBIDDEN)
        return packet if seen.shown and data.obj is packet else in_the_open(packet, data)

    def _follow(self, start: bytes, seen: Packet) -> None:
        assert self._settings is not None, "without them no slice is read"
        try:
            header = h264.slice_header(start, self._settings)
        except ValueError:
            seen.blame(NUMBERING)
            return
        if seen.is_key and not header.intra:
            seen.is_key = False  # as in a stream with gradual refresh
            self.wrong_keys += 1
        goes_on, seen.order = self._numbering.follow(header, seen.is_key)
        seen.reference, seen.sequence = header.reference, self._numbering.sequence
        if not goes_on:
            seen.blame(NUMBERING)

    def _with_taller_settings(
        self, data: memoryview, units: list[tuple[int, int]]
    ) -> tuple[memoryview, list[tuple[int, int]]]:
        taller = with_taller_sets(data, units, self._length_size, self._rows)
        for settings in taller.settings:
            if settings != self._settings:
                self._settings = settings
                self._numbering = Numbering(settings, self._numbering.sequence)
        return taller.data, taller.units

    def _decode(self, packet: av.Packet | None, seen: Packet | None) -> None:
        self._said.clear()
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError as error:
            check_memory(error)
            frames = []
            if seen is not None:
                seen.blame(UNDECODED)
        for frame in frames:
            owner = self._by_pts.get(frame.pts)
            if owner is None:
                continue
            owner.decoded = True
            owner.size = (frame.width, frame.height)
            if owner.is_key and frame.pict_type != INTRA:
                owner.is_key = False
                self.wrong_keys += 1
            self.looked += 1
            if frame.is_corrupt:
                owner.blame(CORRUPT)
            if not self._quick:
                self.looks.see(frame, frame.height - 16 * self._rows)
        if seen is not None and self._said:
            self._listen(seen)

    def _listen(self, seen: Packet) -> None:
        # After a cut, references to be released may be missing, which is harmless.
        harmless = self._settings is not None and self._numbering.after_break
        for level, _, text in self._said:
            passes = SIDE in text or (harmless and LET_GO in text)
            if OVERREAD in text:
                seen.blame(CORRUPT)
            elif level <= av.logging.ERROR and not passes:
                seen.blame(UNDECODED)
