"""FFmpeg calls that several video modules share, among them the only one that opens media."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer

from epic100.base.disk import HashedFile, WatchedFile
from epic100.base.errors import EpicError
from epic100.base.guarded import FileError
from epic100.video.containers import boxes_of

# A picture of 5.3K has 15.9 million pixels. A clip of 8192 x 8192 pixels takes 2.7 GiB.
MAX_PIXELS = 2**24
# Reading is given up after so many input errors in a row.
READ_TRIES = 8
# These containers hold all their data. FFmpeg also opens playlists, descriptions of network
# sessions, lists of files and patterns of names, whatever the file is called, and follows them to
# other files and addresses.
KINDS = "MP4 or MOV, Matroska or WebM, AVI, MPEG-TS, MPEG-PS or IVF"
# FFmpeg gives this name to the side data of a packet that holds a new sample entry.
_NEW_ENTRY = "new_extradata"
_ALLOWED = {
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,ivf",
    "protocol_whitelist": "file",
}


def open_media(
    file: WatchedFile, max_pixels: int = MAX_PIXELS
) -> tuple[InputContainer, av.VideoStream]:
    """Open a video file for reading. Whatever this library reads is opened here.

    Args:
        file: The file, through which FFmpeg gets its bytes.
        max_pixels: Larger pictures are refused.

    Returns:
        The container, and its video stream; if there are several, the one that FFmpeg picks.

    Raises:
        FileError: It is none of `KINDS`, is spoilt, or has no video stream that can be decoded.
        DiskError: The disk fails.
    """
    try:
        container = av.open(
            file,
            "r",
            options=decoder_limit(max_pixels),
            container_options=_ALLOWED.copy(),
            metadata_errors="replace",  # Old cameras write text tags in Latin-1.
        )
    except av.error.FFmpegError as error:
        raise FileError(f"cannot open: {_why_closed(file, error)}") from error
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.time_base is None:
        raise FileError("no video stream in this file")
    context = stream.codec_context
    if context is None:
        raise FileError("no decoder for its video stream")
    if context.width * context.height > max_pixels:
        size = f"{context.width}x{context.height}"
        raise FileError(
            f"its pictures of {size} are larger than {max_pixels} pixels (`scan: max_pixels:`)"
        )
    return container, stream


@contextmanager
def opened(
    path: str | os.PathLike, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[HashedFile, InputContainer, av.VideoStream]]:
    """Open a video file for the time of a block: the file, and what `open_media` gives of it."""
    try:
        file = HashedFile(path)
    except OSError as error:
        raise FileError(f"cannot open: {error.strerror}") from error
    with file:
        container, stream = open_media(file, max_pixels)
        with container:
            yield file, container, stream


def demuxed(
    container: InputContainer,
    stream: av.VideoStream,
    tell: Callable[[str], None] = lambda why: None,
) -> Iterator[av.Packet]:
    """The packets of a stream, also those after an error of the container, which `tell` gets.

    A spoilt file makes PyAV raise errors of its own, too, such as IndexError where a stream begins
    in the middle of a file.
    """
    tries = 0
    while tries < READ_TRIES:
        try:
            for packet in container.demux(stream):
                tries = 0 if packet.size else tries
                yield packet
            return
        except EpicError:
            raise  # The disk fails, not the file.
        except Exception as error:
            # FFmpeg raises a subclass, and then the file is at fault. Here memory is short.
            if type(error) is MemoryError:
                raise
            tell(error_text(error))
            tries += 1


def _why_closed(file: WatchedFile, error: Exception) -> str:
    """Why a file does not open; names what happened to it if that is clear."""
    if not file.size:
        return "the file is empty"
    boxes = list(boxes_of(file.read_at, 0, file.size))
    names = [box.name for box in boxes]
    if names[:1] == ["ftyp"] and ("moov" not in names or boxes[-1].stop > file.size):
        return "truncated: its index (moov box) is not there, or not all of it"
    if names[:1] != ["ftyp"]:
        return f"not a video file; expected {KINDS}"
    return f"its index is spoilt ({error_text(error)})"


def new_entry(packet: av.Packet) -> bytes:
    """The head of a sample entry that begins at a packet, for its decoder, or b""."""
    # To list all kinds, mostly none, is faster than to ask for this kind by its name.
    for side in packet.iter_sidedata():
        if side.data_type == _NEW_ENTRY:
            return bytes(side)
    return b""


def packet_of(data: bytes | memoryview) -> av.Packet:
    """A packet with a copy of some bytes.

    Decoders look at bytes beyond the end, which have to be zeros. `av.Packet(data)` leaves there
    whatever the memory holds, and a decoder of MPEG-4 part 2 takes that for the end of a picture.
    """
    packet = av.Packet(len(data))
    packet.update(data)  # type: ignore[arg-type]  # it takes any buffer
    return packet


def decoder_limit(max_pixels: int) -> dict[str, str]:
    """The option of a decoder that refuses larger pictures, also where they grow in the stream."""
    # Decoders pad pictures, and the scan makes them taller.
    most = max(MAX_PIXELS, 2 * max_pixels)
    return {"max_pixels": str(most)}


def error_text(error: Exception) -> str:
    """The text of an FFmpeg error, without its number and the path."""
    return getattr(error, "strerror", None) or type(error).__name__
