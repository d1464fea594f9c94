"""FFmpeg calls that several modules share, among them the only one that opens a video file.

The boxes of MP4 files: ISO/IEC 14496-12 (2022).
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import av

from epic100.base.disk import HashedFile, WatchedFile
from epic100.base.errors import EpicError
from epic100.base.guarded import FileError

# A frame of a 5.3K camera has 15.9 million pixels, so it is below this limit.
MAX_PIXELS = 2**24
# Reading is given up after this number of input errors in a row.
READ_TRIES = 8
# FFmpeg makes an MP4 of a film of another type with these options (docs/own-kitchen.md): without
# loss; or by encoding it again, at the times of the film, or at a constant rate.
COPY = "-an -sn -c copy"
_X264 = "-fps_mode passthrough -enc_time_base 1:90000 -c:v libx264 -crf 12 -pix_fmt yuv420p"
ENCODE = f"-an -sn {_X264}"
ENCODE_STEADY = f"-an -sn -vf setpts=N/FRAME_RATE/TB {_X264}"
# FFmpeg's names of the containers that are read in place, and of those from which it can make an
# MP4. Each holds all its data. FFmpeg also opens playlists, descriptions of network sessions, lists
# of files and patterns of names, whatever the file is called, and follows them to other files and
# addresses.
IN_PLACE = "mov"
COPIED = "mov,matroska,avi,mpegts,mpeg,flv,ivf"


@contextmanager
def opened(
    path: str | os.PathLike, max_pixels: int = MAX_PIXELS, containers: str = IN_PLACE
) -> Iterator[tuple[HashedFile, av.container.InputContainer, av.VideoStream]]:
    """Open a video file for a `with` block. Every video that this project reads goes through here.

    Args:
        path: The video file.
        max_pixels: Larger frames are rejected.
        containers: FFmpeg's names of the containers that it may open; others are rejected.

    Yields:
        The file, through which FFmpeg gets its bytes; its container; and its video stream: if there
        are several, the one that FFmpeg picks.

    Raises:
        FileError: It cannot be opened, is no MP4 or MOV, is spoilt, or has no video stream that can
            be decoded.
        DiskError: The disk fails.
    """
    try:
        file = HashedFile(path)
    except OSError as error:
        raise FileError(f"cannot open: {error.strerror}") from error
    with file:
        try:
            container = av.open(
                file,
                "r",
                options=decoder_limit(max_pixels),
                # Only local files are opened.
                container_options={
                    "format_whitelist": containers,
                    "protocol_whitelist": "file",
                },
                metadata_errors="replace",  # Old cameras write text tags in Latin-1.
            )
        except av.error.FFmpegError as error:
            raise FileError(f"cannot open: {_why_closed(file, containers, error)}") from error
        with container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream) or stream.time_base is None:
                raise FileError("no video stream in this file")
            context = stream.codec_context
            if context is None:
                raise FileError("no decoder for its video stream")
            if context.width * context.height > max_pixels:
                raise FileError(
                    f"its frames of {context.width}x{context.height} are larger than {max_pixels} "
                    "pixels (`scan: max_pixels:`)"
                )
            yield file, container, stream


def demuxed(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    on_error: Callable[[str], None] = lambda why: None,
) -> Iterator[av.Packet]:
    """Read the packets of a stream, and go on after errors in the container.

    For a damaged file, PyAV may also raise its own errors, e.g. IndexError.

    Args:
        container: The open container.
        stream: The stream to read.
        on_error: Called with the text of each error.
    """
    errors_in_a_row = 0
    while errors_in_a_row < READ_TRIES:
        try:
            for packet in container.demux(stream):
                # An empty packet has nothing that was read, so it does not end a series of errors.
                errors_in_a_row = 0 if packet.size else errors_in_a_row
                yield packet
            return
        except EpicError:
            raise  # This is an error of the disk, which another try would repeat.
        except Exception as error:
            # For a damaged file, FFmpeg raises a subclass of MemoryError. MemoryError itself means
            # that this process is short of memory.
            if type(error) is MemoryError:
                raise
            on_error(error_text(error))
            errors_in_a_row += 1


# Other containers by their first bytes, and the options. AVI and MPEG-PS do not state when each
# frame is shown, so their packets cannot be copied. MPEG-TS has a G at the start of each packet of
# 188 bytes, before which a camera may write 4.
_OTHER_TYPES = {
    rb"\x1a\x45\xdf\xa3": ("Matroska or WebM", COPY),
    rb"RIFF": ("AVI", ENCODE),
    rb"\x00\x00\x01\xba": ("MPEG-PS", ENCODE_STEADY),
    rb"FLV": ("FLV", COPY),
    rb"DKIF": ("IVF", COPY),
    rb"G.{187}G|.{4}G.{191}G": ("MPEG-TS", COPY),
}


def _why_closed(file: WatchedFile, containers: str, error: Exception) -> str:
    """Explain why FFmpeg cannot open a file: it is empty, truncated, corrupted or no video."""
    if not file.size:
        return "the file is empty"
    boxes = list(boxes_of(file.read_at, 0, file.size))
    names = [box.name for box in boxes]
    if names[:1] == ["ftyp"]:
        if "moov" not in names or boxes[-1].stop > file.size:
            return "truncated: its index (moov box) is not there, or not all of it"
        return f"its index is spoilt ({error_text(error)})"
    if containers == IN_PLACE:
        head = file.read_at(0, 200)
        for begin, (name, options) in _OTHER_TYPES.items():
            if re.match(begin, head, re.DOTALL):
                return f"it is {name}; {make_mp4(options)}"
    return "not a video file; expected MP4 or MOV"


class Box(NamedTuple):
    """A box of an MP4 file, e.g. `moov` or `mdat`.

    Attributes:
        name: The type of the box, four characters.
        start: The first byte of the box in the file.
        content: The first byte of its content, after its header.
        stop: The byte after its last one.
    """

    name: str
    start: int
    content: int
    stop: int


def boxes_of(read_at: Callable[[int, int], bytes], start: int, stop: int) -> Iterator[Box]:
    """Read the boxes of an MP4 file one after another, up to bytes that cannot be a box.

    The last box may claim to go on beyond the end.

    Args:
        read_at: Takes a position and a number of bytes, and reads these bytes of the file.
        start: The byte where the first box begins.
        stop: The byte where reading ends; the size of the file for all its boxes.
    """
    while start + 8 <= stop:
        header = read_at(start, 16)
        # A header is a length in 4 bytes, a name in 4, and a length in 8 bytes if the first is 1.
        length, name, header_size = int.from_bytes(header[:4]), header[4:8].decode("latin-1"), 8
        if length == 1:
            length, header_size = int.from_bytes(header[8:16]), 16
        elif length == 0:
            length = stop - start  # The box goes on to the end of the file.
        if length < header_size or not name.isprintable():
            return
        yield Box(name, start, start + header_size, start + length)
        start += length


def make_mp4(options: str) -> str:
    """Say how FFmpeg makes an MP4 that can be read of a file that cannot."""
    return f"expected MP4 or MOV; make one: `ffmpeg -i FILE {options} NEW.mp4`"


def begins_entry(packet: av.Packet) -> bool:
    """Whether another sample entry of an MP4 begins at a packet: the packets after it are coded
    in another way.
    """
    # FFmpeg gives this name to the side data with the extradata of a new sample entry.
    return any(side.data_type == "new_extradata" for side in packet.iter_sidedata())


def packet_of(data: bytes | memoryview) -> av.Packet:
    """Make a packet with a copy of coded bytes.

    Decoders also read bytes behind the end, which have to be zeros. `av.Packet(data)` does not set
    them, and a decoder of MPEG-4 part 2 may take them for the start of another frame.
    """
    packet = av.Packet(len(data))
    packet.update(data)  # type: ignore[arg-type]  # it takes any buffer
    return packet


def decoder_limit(max_pixels: int) -> dict[str, str]:
    """Return the option with which a decoder rejects huge frames, wherever they come."""
    # Decoders pad frames, and the scan makes them taller, so twice the limit is allowed.
    return {"max_pixels": str(max(MAX_PIXELS, 2 * max_pixels))}


@contextmanager
def decoder_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Capture the log of decoders in this process, which has the errors that they conceal.

    Yields:
        The list of (level, name, text), which grows. Some entries may be of lower levels.
    """
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        # The log of FFmpeg is shared by all of the process.
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)


def error_text(error: Exception) -> str:
    """Return the text of an FFmpeg error without number and path; else the name of the error."""
    return getattr(error, "strerror", None) or type(error).__name__
