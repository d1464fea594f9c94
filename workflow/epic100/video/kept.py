"""Caches of open files and converters, which the video readers of a process share; new decoders.

Opening a file costs a round trip to the disk, and a new converter computes tables. A training draws
clips from hundreds of files at random, so without caches nearly each clip would need both.
"""

import os
import resource
from functools import lru_cache
from typing import cast

import av

from epic100.base.disk import WatchedFile
from epic100.base.machine import expect_random_reads
from epic100.video.facts import COLOURS, StreamFacts
from epic100.video.ffmpeg import decoder_limit
from epic100.video.frames import FrameFolder
from epic100.video.window import FrameConverter

# EPIC-KITCHENS-100 has 495 training videos, with few different streams.
MAX_FILES = 512
# A converter takes 140 kB. Training draws one of 47 sizes for each clip.
MAX_CONVERTERS = 64


def _max_files() -> int:
    """Return how many files may stay open: `MAX_FILES`, or half of the system's limit if less."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_FILES
        if soft_limit == resource.RLIM_INFINITY
        else max(1, min(MAX_FILES, soft_limit // 2))
    )


def _open_file(path: str) -> WatchedFile | FrameFolder:
    """Open a video file, and tell the system not to read ahead: clips are at random places."""
    if os.path.isdir(path):
        return FrameFolder(path)
    file = WatchedFile(path)
    expect_random_reads(file.descriptor)
    return file


class SharedCaches:
    """Caches of open files and converters for the video readers of one process.

    Each attribute is a function with a cache (`functools.lru_cache`).

    Attributes:
        files: Opens a file by its path. Forked processes may share the descriptors, since a read at
            an offset moves no position. A file that leaves the cache is closed.
        converters: Makes a converter of frames by the stream, the size of the windows and the
            size that they are scaled to. Streams with equal keys describe their colours alike.
    """

    def __init__(self) -> None:
        """Make empty caches."""
        self.files = lru_cache(_max_files())(_open_file)
        # All converters are made alike, and only the cache needs the key.
        self.converters = lru_cache(MAX_CONVERTERS)(lambda *key: FrameConverter())


def new_decoder(stream: StreamFacts, extradata: bytes) -> av.VideoCodecContext:
    """Make a decoder for the frames of one call: one thread, exact crops, and no huge frames.

    Even when it is flushed, a decoder keeps the parameter sets of what it has decoded last. So no
    decoder is kept for another place or file.

    Args:
        stream: The parameters of the stream. A scan or `build_index` has accepted its size.
        extradata: Its parameter sets.
    """
    decoder = cast(av.VideoCodecContext, av.CodecContext.create(stream.codec, "r"))
    if extradata:
        decoder.extradata = extradata
    decoder.width, decoder.height = stream.width, stream.height
    if stream.pix_fmt:
        decoder.pix_fmt = stream.pix_fmt
    for name, value in zip(COLOURS, stream.colours, strict=True):
        setattr(decoder, name, value)
    # Each clip gets one core: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    # Without this flag, a crop from the left is rounded.
    decoder.flags |= av.codec.context.Flags.unaligned
    # Frames are lost if a stream of H.264 does not state how far they are out of order. "Strict"
    # assumes the maximum that the level of the stream allows, which does not change the frames.
    decoder.options = {"strict": "strict"} if stream.codec == "h264" else {}
    decoder.options = {**decoder.options, **decoder_limit(stream.width * stream.height)}
    return decoder
