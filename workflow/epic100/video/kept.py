"""What a process keeps between clips: open files, decoders, converters, a bounded number of each.

Opening a file costs a round trip to the disk, and a new decoder or converter its tables. A training
draws clips from hundreds of files at random, so nearly every clip would pay for all.
"""

import errno
import os
import resource
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from epic100.base.machine import expect_random_reads
from epic100.video.packet_table import COLOURS, StreamFacts
from epic100.video.window import PictureConverter

MOST_FILES, MOST_DECODERS = 512, 4  # EPIC-KITCHENS-100 has 495 training videos
MOST_CONVERTERS = 64  # of 140 kB; training draws one of 47 sizes for each clip


V = TypeVar("V")


@dataclass(frozen=True)
class _File:
    descriptor: int
    size: int


class OpenFiles:
    """Keeps the last files open and reads from them at any place.

    Forked processes may share the descriptors, since a read at a place moves no position.
    """

    def __init__(self, most: int | None = None):
        """Keep at most `most` files; None: 512, or half of what the system allows if less."""
        if most is None:
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            half = soft // 2 if soft != resource.RLIM_INFINITY else MOST_FILES
            most = max(1, min(MOST_FILES, half))
        self.most = most
        self.opened = 0  # how often a file was opened
        self._files: OrderedDict[str, _File] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def size(self, path: str) -> int:
        """Size of the file in bytes when it was opened. Raises OSError."""
        return self._get(path).size

    def read(self, path: str, position: int, count: int) -> bytes:
        """Read `count` bytes at `position`; fewer at the end of the file.

        Raises:
            OSError: The read fails. The file is closed, so that the next try opens it anew.
        """
        file = self._get(path)
        try:
            data = os.pread(file.descriptor, count, position)
            while len(data) < count:  # the system reads at most 2 GiB at once, or less on a signal
                more = os.pread(file.descriptor, count - len(data), position + len(data))
                if not more:
                    break
                data += more
        except OSError:
            self.forget(path)
            raise
        return data

    def forget(self, path: str) -> None:
        """Close one file if it is open."""
        file = self._files.pop(path, None)
        if file is not None:
            os.close(file.descriptor)

    def close(self) -> None:
        """Close all files."""
        for path in list(self._files):
            self.forget(path)

    def __del__(self) -> None:
        self.close()

    def _get(self, path: str) -> _File:
        file = self._files.get(path)
        if file is not None:
            self._files.move_to_end(path)
            return file
        while len(self._files) >= self.most:
            self.forget(next(iter(self._files)))
        descriptor = self._open(path)
        try:
            file = _File(descriptor, os.fstat(descriptor).st_size)
            expect_random_reads(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._files[path] = file
        self.opened += 1
        return file

    def _open(self, path: str) -> int:
        while True:
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._files:
                    raise
            self.forget(next(iter(self._files)))  # others of this process need descriptors too


class _Last(Generic[V]):
    """Keeps the values that were asked for last, at most `most`."""

    def __init__(self, most: int):
        self.most = most
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def _find(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of this key, made if it is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        while len(self._values) >= self.most:
            self._values.popitem(last=False)
        return self._values.setdefault(key, make())


class Decoders(_Last[VideoCodecContext]):
    """Keeps the last decoders. Streams of equal parameters share one, which they flush first."""

    def __init__(self, most: int = MOST_DECODERS):
        super().__init__(most)

    def get(self, stream: StreamFacts, extradata: bytes, known: bool) -> VideoCodecContext:
        """A decoder on one thread.

        Args:
            stream: The stream.
            extradata: Its parameter sets, in the format of the file.
            known: Set size and colours as the container states them. A stream whose parameter sets
                change states them itself.
        """
        key = (stream, extradata, known)
        return self._find(key, lambda: _new_decoder(*key))


class Converters(_Last[PictureConverter]):
    """Keeps the last converters of pictures."""

    def __init__(self, most: int = MOST_CONVERTERS):
        super().__init__(most)

    def get(self, key: Hashable) -> PictureConverter:
        """The converter of a stream, the size of its windows and the size they are scaled to.

        Args:
            key: All of these. Streams with equal keys describe their colours alike.
        """
        return self._find(key, PictureConverter)


@dataclass(frozen=True)
class Kept:
    """What readers of one process share.

    Attributes:
        files: Open files.
        decoders: Decoders.
        converters: Converters of decoded pictures.
    """

    files: OpenFiles = field(default_factory=OpenFiles)
    decoders: Decoders = field(default_factory=Decoders)
    converters: Converters = field(default_factory=Converters)


def prepare(decoder: VideoCodecContext) -> None:
    """Make a decoder that is not open yet use one thread and crop exactly."""
    # One core per clip: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags |= Flags.unaligned  # without it, a crop from the left is rounded


def _new_decoder(stream: StreamFacts, extradata: bytes, known: bool) -> VideoCodecContext:
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
