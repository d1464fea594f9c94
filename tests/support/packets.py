"""Encode frames, rewrite a video with its packets in another order or with fewer, or decode it.

A rewrite does not code the frames again, and keeps only the video stream. No test is here, and
nothing of the library.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


@dataclass(frozen=True)
class CodedFrame:
    """A packet: its bytes, its times in units of the stream's time base, its key frame flag."""

    data: bytes
    pts: int
    dts: int
    is_key: bool


def write_film(
    path: Path,
    frames: Iterable[np.ndarray],
    size: tuple[int, int],
    rate: Fraction,
    times: Iterable[int],
    unit: Fraction,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    container: str | None = None,
    muxer: dict[str, str] | None = None,
    coder: dict[str, str] | None = None,
    clock: Fraction | None = None,
) -> Path:
    """Encode a video.

    Args:
        path: The file to write.
        frames: Frames [height, width, 3].
        size: Width and height in pixels.
        rate: Frames per second.
        times: When each frame is shown, in units of `unit` seconds.
        unit: The unit of `times`.
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the format of pixels.
        container: FFmpeg's name of the container; None means by the suffix.
        muxer: Options of the muxer.
        coder: Options of the encoder.
        clock: The unit in which the encoder counts time; None means `unit`.
    """
    with av.open(str(path), "w", format=container, options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = clock or unit
        stream.options = coder or {}
        for pixels, time in zip(frames, times, strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, unit
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    # SVT-AV1 gives this process a real-time priority if root runs it.
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


Change = Callable[[list[CodedFrame]], list[CodedFrame]]


def rewrite(
    path: Path,
    change: Change = list,
    out: Path | None = None,
    header: Callable[[bytes], bytes] = bytes,
    **options: str,
) -> Path:
    """Change the packets of a file, and write them over the file or to `out`.

    Args:
        path: The file.
        change: Makes the new packets from the packets of the file.
        out: The new file, whose suffix chooses the container.
        header: Makes the new header of the codec from that of the file.
        **options: Options of the muxer.
    """
    out = out or path
    temporary = out.with_name(f"rewritten.{out.name}")
    with av.open(str(path)) as source:
        stream = source.streams.best("video")
        packets = [
            CodedFrame(bytes(p), p.pts, p.dts, p.is_keyframe)
            for p in source.demux(stream)
            if p.size and p.pts is not None and p.dts is not None
        ]
        with av.open(str(temporary), "w", options=options) as target:
            # The stream is copied as it is, since a decoder (dav1d of AV1) need not have an encoder
            # of the same name.
            copy = target.add_stream_from_template(stream, opaque=True)
            copy.codec_context.extradata = header(stream.codec_context.extradata or b"")
            for made in change(packets):
                packet = av.Packet(made.data)
                packet.pts, packet.dts, packet.is_keyframe = made.pts, made.dts, made.is_key
                packet.stream, packet.time_base = copy, stream.time_base
                target.mux(packet)
    os.replace(temporary, out)
    return out


def decoded(path: Path, format: str = "rgb24") -> dict[int, np.ndarray]:
    """Decode a file with one decoder from the start to the end, and return its frames by time.

    Packets that do not decode are left out, and so is the rest of a file that cannot be read.
    """
    shown: dict[int, np.ndarray] = {}
    with av.open(str(path)) as container, contextlib.suppress(av.error.FFmpegError):
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        stream.codec_context.flags |= av.codec.context.Flags.unaligned
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.FFmpegError):
                shown |= {frame.pts: frame.to_ndarray(format=format) for frame in packet.decode()}
    return dict(sorted(shown.items()))


def in_decoder_order(path: Path) -> np.ndarray:
    """Decode all frames of a file, in the order in which the decoder gives them.

    It needs no times, which some containers do not have.
    """
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def later(packets: list[CodedFrame], by: int) -> list[CodedFrame]:
    """Delay packets by `by` units of the time base."""
    return [replace(p, pts=p.pts + by, dts=p.dts + by) for p in packets]


def swap_packets(path: Path, seed: int) -> None:
    """Swap the coded frames of two packets in a row, no key frames; times and flags stay."""

    def change(packets: list[CodedFrame]) -> list[CodedFrame]:
        pairs = zip(packets, packets[1:], strict=False)
        plain = [i for i, (one, other) in enumerate(pairs) if not (one.is_key or other.is_key)]
        i = int(np.random.default_rng(seed).choice(plain))
        first, second = packets[i : i + 2]
        packets[i : i + 2] = [replace(first, data=second.data), replace(second, data=first.data)]
        return packets

    rewrite(path, change)


def drop_packets(
    path: Path, seed: int, count: int, close: bool = False, groups: bool = False
) -> None:
    """Remove `count` packets or groups of frames; the first and the last stay.

    With `close`, the packets after the gap move forward to close it. Otherwise they keep their
    times.
    """

    def change(packets: list[CodedFrame]) -> list[CodedFrame]:
        places = _keys(packets) if groups else list(range(len(packets)))
        first = int(np.random.default_rng(seed).integers(1, len(places) - count))
        start, stop = places[first], places[first + count]
        delay = (start - stop) * _step(packets) if close else 0
        return packets[:start] + later(packets[stop:], delay)

    rewrite(path, change)


def repeat_group(path: Path, seed: int) -> None:
    """Write one group of frames twice; all later packets are delayed by its length."""

    def change(packets: list[CodedFrame]) -> list[CodedFrame]:
        keys = _keys(packets)
        first = int(np.random.default_rng(seed).integers(0, len(keys) - 1))
        start, stop = keys[first], keys[first + 1]
        return packets[:stop] + later(packets[start:], (stop - start) * _step(packets))

    rewrite(path, change)


def _keys(packets: list[CodedFrame]) -> list[int]:
    """List the numbers of the packets that are key frames."""
    return [i for i, p in enumerate(packets) if p.is_key]


def _step(packets: list[CodedFrame]) -> int:
    """Return the usual time from one frame to the next."""
    return int(np.median(np.diff(sorted(p.pts for p in packets))))


VOP_START = b"\0\0\1\xb6"  # These bytes begin a frame of MPEG-4. Its type is in the next 2 bits.
TYPE_I, TYPE_B = 0, 2
NOT_CODED = VOP_START + b"\x50\0\0"


def packed_mpeg_4(packets: list[CodedFrame]) -> list[CodedFrame]:
    """Pack MPEG-4 as Xvid does: a frame and the B-frame shown before it share a packet.

    The packets I P B B, for example, become I PB B N, where N is a frame that is not coded.
    """
    coded = [packet.data for packet in packets]
    types = [data[data.index(VOP_START) + 4] >> 6 for data in coded]
    packed, packed_types = [], []
    for data, picture_type, before, after in zip(
        coded, types, [None, *types], [*types[1:], None], strict=False
    ):
        if picture_type == TYPE_B and before != TYPE_B:
            packed[-1] += data
        else:
            packed.append(data)
            packed_types.append(picture_type)
        if picture_type == TYPE_B and after != TYPE_B:
            packed.append(NOT_CODED)
            packed_types.append(None)
    # A note of the encoder before the first frame says that frames are packed.
    packed[0] = packed[0].replace(VOP_START, b"\0\0\1\xb2DivX503b1393p" + VOP_START, 1)
    clock = sorted(packet.dts for packet in packets)
    is_key = [picture_type == TYPE_I for picture_type in packed_types]
    return [CodedFrame(*row) for row in zip(packed, clock, clock, is_key, strict=True)]
