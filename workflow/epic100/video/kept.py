"""Caches of open files, decoders and converters, which the video readers of a process share.

Opening a file costs a round trip to the disk, and a new decoder or converter computes tables. A
training draws clips from hundreds of files at random, so without caches nearly each clip would need
all three.
"""

import resource
from functools import lru_cache
from typing import cast

import av

from epic100.base.disk import WatchedFile
from epic100.base.machine import expect_random_reads
from epic100.video.facts import COLOURS, StreamFacts
from epic100.video.ffmpeg import decoder_limit
from epic100.video.window import PictureConverter

# EPIC-KITCHENS-100 has 495 training videos, with few different streams.
MOST_FILES, MOST_DECODERS = 512, 4
# A converter takes 140 kB. Training draws one of 47 sizes for each clip.
MOST_CONVERTERS = 64


def _most_files() -> int:
    """Return how many files may stay open: `MOST_FILES`, or half of the system's limit if less."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MOST_FILES
        if soft_limit == resource.RLIM_INFINITY
        else max(1, min(MOST_FILES, soft_limit // 2))
    )


def _open_file(path: str) -> WatchedFile:
    """Open a video file, and tell the system not to read ahead: clips are at random places."""
    file = WatchedFile(path)
    expect_random_reads(file.descriptor)
    return file


class SharedCaches:
    """Caches of open files, decoders and converters for the video readers of one process.

    Each attribute is a function with a cache (`functools.lru_cache`).

    Attributes:
        files: Opens a file by its path. Forked processes may share the descriptors, since a read at
            an offset moves no position. A file that leaves the cache is closed.
        decoders: Makes a decoder by the arguments of `new_decoder`. Streams of equal parameters
            share one, which they flush.
        converters: Makes a converter of pictures by the stream, the size of the windows and the
            size that they are scaled to. Streams with equal keys describe their colours alike.
    """

    def __init__(self) -> None:
        """Make empty caches."""
        self.files = lru_cache(_most_files())(_open_file)
        self.decoders = lru_cache(MOST_DECODERS)(new_decoder)
        # All converters are made alike, and only the cache needs the key.
        self.converters = lru_cache(MOST_CONVERTERS)(lambda *key: PictureConverter())


def prepare(decoder: av.VideoCodecContext) -> None:
    """Configure a new decoder to use one thread, crop exactly, and refuse huge pictures.

    Args:
        decoder: A decoder that is not open yet. Its size is that of the file, which a scan or
            `build_index` has accepted.
    """
    # Each clip gets one core: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags |= (
        av.codec.context.Flags.unaligned
    )  # Without it, a crop from the left is rounded.
    decoder.options = {**decoder.options, **decoder_limit(decoder.width * decoder.height)}


def new_decoder(
    stream: StreamFacts, extradata: bytes, uses_container_facts: bool
) -> av.VideoCodecContext:
    """Make a decoder for a video stream.

    Args:
        stream: The parameters of the stream.
        extradata: Its parameter sets.
        uses_container_facts: Whether to set size and colours as the container states them. A stream
            whose parameter sets change states them itself.
    """
    decoder = cast(av.VideoCodecContext, av.CodecContext.create(stream.codec, "r"))
    if extradata:
        decoder.extradata = extradata
    if uses_container_facts:
        decoder.width, decoder.height = stream.width, stream.height
        if stream.pix_fmt:
            decoder.pix_fmt = stream.pix_fmt
        for name, value in zip(COLOURS, stream.colours, strict=True):
            setattr(decoder, name, value)
    if stream.codec == "h264":
        # FFmpeg's demuxer measures how far pictures are out of order. Without it, pictures are lost
        # if the stream does not state this. "Strict" assumes the most that the level of the stream
        # allows, which does not change the pictures.
        decoder.options = {"strict": "strict"}
    prepare(decoder)
    return decoder
