"""What a process keeps between clips: open files, decoders, converters, a bounded number of each.

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

MOST_FILES, MOST_DECODERS = 512, 4  # EPIC-KITCHENS-100 has 495 training videos.
# A converter takes 140 kB. Training draws one of 47 sizes for each clip.
MOST_CONVERTERS = 64


def _most_files() -> int:
    """512, or half of what the system allows this process if that is less."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_FILES if soft == resource.RLIM_INFINITY else max(1, min(MOST_FILES, soft // 2))


def _open_file(path: str) -> WatchedFile:
    file = WatchedFile(path)
    expect_random_reads(file.descriptor)
    return file


class Kept:
    """What readers of one process share: the things that were asked for last.

    Attributes:
        files: Open files, by path. Forked processes may share the descriptors, since a read at a
            place moves no position. A file that is let go is closed.
        decoders: Decoders on one thread, by the arguments of `new_decoder`. Streams of equal
            parameters share one, which they flush.
        converters: Converters of decoded pictures, by stream, size of the windows and the size that
            they are scaled to. Streams with equal keys describe their colours alike.
    """

    def __init__(self) -> None:
        self.files = lru_cache(_most_files())(_open_file)
        self.decoders = lru_cache(MOST_DECODERS)(new_decoder)
        self.converters = lru_cache(MOST_CONVERTERS)(lambda *key: PictureConverter())


def prepare(decoder: VideoCodecContext) -> None:
    """Make a decoder that is not open yet use one thread, crop exactly, and refuse huge pictures.

    A scan, or `build_index`, has accepted the size that the file states.
    """
    # Each clip gets one core: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags |= Flags.unaligned  # Without it, a crop from the left is rounded.
    decoder.options = {**decoder.options, **decoder_limit(decoder.width * decoder.height)}


def new_decoder(stream: StreamFacts, extradata: bytes, known: bool) -> VideoCodecContext:
    """A decoder for a stream.

    Args:
        stream: The stream.
        extradata: Its parameter sets.
        known: Whether to set size and colours as the container states them. A stream whose
            parameter sets change states them itself.
    """
    decoder = cast(VideoCodecContext, av.CodecContext.create(stream.codec, "r"))
    if extradata:
        decoder.extradata = extradata
    if known:
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
