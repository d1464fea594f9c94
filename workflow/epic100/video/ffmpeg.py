"""FFmpeg calls that several modules share, among them the only one that opens a video file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import av

from epic100.base.disk import HashedFile, WatchedFile
from epic100.base.errors import EpicError
from epic100.base.guarded import FileError
from epic100.video.containers import boxes_of

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
# Other containers by their first bytes, and the options. AVI and MPEG-PS do not state when each
# frame is shown, so their packets cannot be copied.
_OTHER_TYPES = {
    b"\x1a\x45\xdf\xa3": ("Matroska or WebM", COPY),
    b"RIFF": ("AVI", ENCODE),
    b"\0\0\1\xba": ("MPEG-PS", ENCODE_STEADY),
    b"FLV": ("FLV", COPY),
    b"DKIF": ("IVF", COPY),
}
# MPEG-TS has this byte at the start of each packet of 188 bytes, before which a camera may write 4.
_TS_SYNC, _TS_SIZES = 0x47, ((0, 188), (4, 192))
# FFmpeg gives this name to the side data with the extradata of a new sample entry.
_NEW_ENTRY = "new_extradata"
# FFmpeg's names of the containers that are read in place, and of those from which it can make an
# MP4. Each holds all its data. FFmpeg also opens playlists, descriptions of network sessions, lists
# of files and patterns of names, whatever the file is called, and follows them to other files and
# addresses.
IN_PLACE = "mov"
COPIED = "mov,matroska,avi,mpegts,mpeg,flv,ivf"


def open_media(
    file: WatchedFile, max_pixels: int = MAX_PIXELS, containers: str = IN_PLACE
) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open a video file for reading. Every video that this project reads goes through here.

    Args:
        file: The file, through which FFmpeg gets its bytes.
        max_pixels: Larger frames are rejected.
        containers: FFmpeg's names of the containers that it may open; others are rejected.

    Returns:
        The container, and its video stream; if there are several, the one that FFmpeg picks.

    Raises:
        FileError: It is no MP4 or MOV, is spoilt, or has no video stream that can be decoded.
        DiskError: The disk fails.
    """
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
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.time_base is None:
        raise FileError("no video stream in this file")
    context = stream.codec_context
    if context is None:
        raise FileError("no decoder for its video stream")
    if context.width * context.height > max_pixels:
        raise FileError(
            f"its frames of {context.width}x{context.height} are larger than {max_pixels} pixels "
            "(`scan: max_pixels:`)"
        )
    return container, stream


@contextmanager
def opened(
    path: str | os.PathLike, max_pixels: int = MAX_PIXELS, containers: str = IN_PLACE
) -> Iterator[tuple[HashedFile, av.container.InputContainer, av.VideoStream]]:
    """Open a video file for a `with` block, and close it at its end.

    Args:
        path: The video file.
        max_pixels: Larger frames are rejected.
        containers: FFmpeg's names of the containers that it may open; others are rejected.

    Yields:
        The file, its container and its video stream, as `open_media` gives them.

    Raises:
        FileError: The file cannot be opened, or `open_media` rejects it.
        DiskError: The disk fails.
    """
    try:
        file = HashedFile(path)
    except OSError as error:
        raise FileError(f"cannot open: {error.strerror}") from error
    with file:
        container, stream = open_media(file, max_pixels, containers)
        with container:
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


def _why_closed(file: WatchedFile, containers: str, error: Exception) -> str:
    """Explain why FFmpeg cannot open a file: it is empty, truncated, corrupted or no video."""
    if not file.size:
        return "the file is empty"
    boxes = list(boxes_of(file.read_at, 0, file.size))
    names = [box.name for box in boxes]
    if names[:1] == ["ftyp"] and ("moov" not in names or boxes[-1].stop > file.size):
        return "truncated: its index (moov box) is not there, or not all of it"
    if names[:1] != ["ftyp"]:
        other_type = _other_type(file.read_at(0, 200)) if containers == IN_PLACE else ""
        return other_type or "not a video file; expected MP4 or MOV"
    return f"its index is spoilt ({error_text(error)})"


def _other_type(head: bytes) -> str:
    """Name the container that begins with these bytes, and how to make an MP4 of it; "" if none."""
    for magic, (name, options) in _OTHER_TYPES.items():
        if head.startswith(magic):
            return f"it is {name}; {make_mp4(options)}"
    for start, size in _TS_SIZES:
        if head[start : start + 1] == head[start + size : start + size + 1] == bytes([_TS_SYNC]):
            return f"it is MPEG-TS; {make_mp4(COPY)}"
    return ""


def make_mp4(options: str) -> str:
    """Say how FFmpeg makes an MP4 that can be read of a file that cannot."""
    return f"expected MP4 or MOV; make one: `ffmpeg -i FILE {options} NEW.mp4`"


def begins_entry(packet: av.Packet) -> bool:
    """Whether another sample entry of an MP4 begins at a packet: the packets after it are coded
    in another way.
    """
    return any(side.data_type == _NEW_ENTRY for side in packet.iter_sidedata())


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
