"""Keep open files, decoders and converters of a process between clips, a bounded number of each.

Opening a file costs a round trip to the disk, and a new decoder or converter its tables. A training
draws clips from hundreds of files at random, so nearly every clip would pay for all.
"""

import resource
from functools import lru_cache
from typing import cast

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from epic100.base.disk import WatchedFile
from epic100.base.machine import expect_random_reads
from epic100.video.facts import COLOURS, StreamFacts
from epic100.video.ffmpeg import decoder_limit
from epic100.video.window import PictureConverter

# EPIC-KITCHENS-100 has 495 training videos.
MOST_FILES, MOST_DECODERS = 512, 4
# A converter takes 140 kB. Training draws one of 47 sizes for each clip.
MOST_CONVERTERS = 64


def _most_files() -> int:
    """The number of files to keep open: `MOST_FILES`, or half of the system's limit if less."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MOST_FILES
        if soft_limit == resource.RLIM_INFINITY
        else max(1, min(MOST_FILES, soft_limit // 2))
    )


def _open_file(path: str) -> WatchedFile:
    """Open a video, and tell the system that it will be read here and there, not in order."""
    file = WatchedFile(path)
    expect_random_reads(file.descriptor)
    return file


class Kept:
    """Open files, decoders and converters that the video readers of one process share.

    Each attribute is a function that makes a thing, or returns it again if it was among the last
    that were asked for.

    Attributes:
        files: Open files, by path. Forked processes may share the descriptors, since a read at an
            offset moves no position. A file that is dropped is closed.
        decoders: Decoders on one thread, by the arguments of `new_decoder`. Streams of equal
            parameters share one, which they flush.
        converters: Converters of decoded pictures, by stream, size of the windows and the size that
            they are scaled to. Streams with equal keys describe their colours alike.
    """

    def __init__(self) -> None:
        self.files = lru_cache(_most_files())(_open_file)
        self.decoders = lru_cache(MOST_DECODERS)(new_decoder)
        # All converters are made alike. The key of each is only remembered by the cache.
        self.converters = lru_cache(MOST_CONVERTERS)(lambda *key: PictureConverter())


def prepare(decoder: VideoCodecContext) -> None:
    """Set up a decoder to use one thread, crop exactly, and refuse huge pictures.

    Args:
        decoder: A decoder that is not open yet. Its size is that of the file, which a scan or
            `build_index` has accepted.
    """
    # Each clip gets one core: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags |= Flags.unaligned  # Without it, a crop from the left is rounded.
    decoder.options = {**decoder.options, **decoder_limit(decoder.width * decoder.height)}


def new_decoder(
    stream: StreamFacts, extradata: bytes, uses_container_facts: bool
) -> VideoCodecContext:
    """Make a decoder for a video stream.

    Args:
        stream: The facts of the stream.
        extradata: Its parameter sets.
        uses_container_facts: Whether to set size and colours as the container states them. A stream
            whose parameter sets change states them itself.
    """
    decoder = cast(VideoCodecContext, av.CodecContext.create(stream.codec, "r"))
    if extradata:
        decoder.extradata = extradata
    if uses_container_facts:
        decoder.width, decoder.height = stream.width, stream.height
        if stream.pix_fmt:
            decoder.pix_fmt = stream.pix_fmt
        for name, value in zip(COLOURS, stream.colours, strict=True):
            setattr(decoder, name, value)
    if stream.codec == "h264":
        # A container tells how far pictures may be out of order; FFmpeg's demuxer measures it.
        # Without that, pictures are lost if the stream does not say so itself. "Strict" assumes
        # the most that the stream's level allows. The pictures stay the same.
        decoder.options = {"strict": "strict"}
    prepare(decoder)
    return decoder
