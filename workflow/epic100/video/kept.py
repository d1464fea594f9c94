"""What a process keeps between clips: open files, decoders, converters, a bounded number of each.

Opening a file costs a round trip to the disk, and a new decoder or converter its tables. A training
draws clips from hundreds of files at random, so nearly every clip would pay for all.
"""

import resource
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from epic100.base.disk import WatchedFile
from epic100.base.machine import expect_random_reads
from epic100.video.facts import COLOURS, StreamFacts
from epic100.video.ffmpeg import decoder_limit
from epic100.video.window import PictureConverter

MOST_FILES, MOST_DECODERS = 512, 4  # EPIC-KITCHENS-100 has 495 training videos
MOST_CONVERTERS = 64  # of 140 kB; training draws one of 47 sizes for each clip

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Keeps the values that were asked for last, and closes each that it lets go.

    Args:
        most: Number of values.
        make: Makes the value of a key.
        close: Closes a value.
    """

    def __init__(
        self, most: int, make: Callable[[K], V], close: Callable[[V], None] = lambda value: None
    ):
        self._most, self._make, self._close = most, make, close
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V:
        """The value of this key, made if it is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        while len(self._values) >= self._most:
            self.forget(next(iter(self._values)))  # that was not asked for longest
        value = self._values[key] = self._make(key)
        return value

    def forget(self, key: K) -> None:
        """Close the value of one key if it is kept."""
        if key in self._values:
            self._close(self._values.pop(key))

    def close(self) -> None:
        """Close all values."""
        for key in list(self._values):
            self.forget(key)


def _most_files() -> int:
    """512, or half of what the system allows this process if that is less."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_FILES if soft == resource.RLIM_INFINITY else max(1, min(MOST_FILES, soft // 2))


def _open_file(path: str) -> WatchedFile:
    file = WatchedFile(path)
    expect_random_reads(file.descriptor)
    return file


# What a decoder is made from: the stream, its parameter sets, and whether to set size and colours
# as the container states them. A stream whose parameter sets change states them itself.
DecoderKey = tuple[StreamFacts, bytes, bool]


@dataclass(frozen=True)
class Kept:
    """What readers of one process share.

    Attributes:
        files: Open files, by path. Forked processes may share the descriptors, since a read at a
            place moves no position.
        decoders: Decoders on one thread. Streams of equal parameters share one, which they flush.
        converters: Converters of decoded pictures, by stream, size of the windows and the size that
            they are scaled to. Streams with equal keys describe their colours alike.
    """

    files: Cache[str, WatchedFile] = field(
        default_factory=lambda: Cache(_most_files(), _open_file, WatchedFile.close)
    )
    decoders: Cache[DecoderKey, VideoCodecContext] = field(
        default_factory=lambda: Cache(MOST_DECODERS, lambda key: new_decoder(*key))
    )
    converters: Cache[Hashable, PictureConverter] = field(
        default_factory=lambda: Cache(MOST_CONVERTERS, lambda key: PictureConverter())
    )


def prepare(decoder: VideoCodecContext) -> None:
    """Make a decoder that is not open yet use one thread, crop exactly, and refuse huge pictures.

    A scan, or `build_index`, has accepted the size that the file states.
    """
    # One core per clip: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags |= Flags.unaligned  # without it, a crop from the left is rounded
    decoder.options = {**decoder.options, **decoder_limit(decoder.width * decoder.height)}


def new_decoder(stream: StreamFacts, extradata: bytes, known: bool) -> VideoCodecContext:
    """A decoder for a stream; see `DecoderKey` for the arguments."""
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
