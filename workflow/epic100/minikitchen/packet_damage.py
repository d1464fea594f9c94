"""Damage to the order of a video's packets, as by failing recorders and muxers.

Every function rewrites the file from its packets, whole or not at all, without coding pictures
again. Only the video stream is kept.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.video.ffmpeg import picture_stream


@dataclass(frozen=True)
class CodedPicture:
    """One packet: its bytes, its times in units of the stream's time base, its key frame flag."""

    data: bytes
    pts: int
    dts: int
    is_key: bool


def rewrite(
    path: str | os.PathLike,
    change: Callable[[list[CodedPicture]], list[CodedPicture]],
    out: str | os.PathLike | None = None,
    **options: str,
) -> None:
    """Rewrite a file with changed packets.

    Args:
        path: The file to read.
        change: Takes all packets and returns the packets to write.
        out: The file to write; its suffix chooses the container. None overwrites `path`.
        **options: Options of the muxer, such as `movflags="faststart"`.

    Raises:
        EpicError: The file has no video stream.
    """
    with av.open(os.fspath(path)) as source, atomic_path(out or path) as temporary:
        stream = picture_stream(source)
        if stream is None or stream.time_base is None:
            raise EpicError(f"{path}: no video stream in this file")
        packets = [
            CodedPicture(bytes(p), p.pts, p.dts, p.is_keyframe)
            for p in source.demux(stream)
            if p.size and p.pts is not None and p.dts is not None
        ]
        with av.open(str(temporary), "w", options=options) as target:
            # As it is, since a decoder (dav1d of AV1) need not have an encoder of the same name.
            copy = target.add_stream_from_template(stream, opaque=True)
            for made in change(packets):
                packet = av.Packet(made.data)
                packet.pts, packet.dts = made.pts, made.dts
                packet.is_keyframe = made.is_key
                packet.stream, packet.time_base = copy, stream.time_base
                target.mux(packet)


def swap_packets(path: str | os.PathLike, seed: int, pairs: int = 1) -> None:
    """Swap the coded pictures of `pairs` neighbours, never key frames; times and flags stay."""

    def change(packets: list[CodedPicture]) -> list[CodedPicture]:
        plain = [
            i
            for i, (a, b) in enumerate(zip(packets, packets[1:], strict=False))
            if not (a.is_key or b.is_key)
        ]
        if len(plain) < pairs:
            raise EpicError(f"{Path(path)}: too few neighbours that are no key frames to swap")
        for i in np.random.default_rng(seed).choice(plain, pairs, replace=False).tolist():
            a, b = packets[i : i + 2]
            packets[i : i + 2] = [replace(a, data=b.data), replace(b, data=a.data)]
        return packets

    rewrite(path, change)


def drop_packets(
    path: str | os.PathLike, seed: int, count: int, close: bool = False, groups: bool = False
) -> None:
    """Remove a run of packets; the first and the last packet stay.

    Args:
        path: The file.
        seed: Determines the place.
        count: How many packets, or groups of pictures.
        close: Whether later packets move forward to close the gap; else they keep their times.
        groups: Whether to remove groups of pictures (key frame to key frame).
    """

    def change(packets: list[CodedPicture]) -> list[CodedPicture]:
        step = _step(packets)
        rng = np.random.default_rng(seed)
        if groups:
            keys = _keys(path, packets, count + 2)
            first = int(rng.integers(1, len(keys) - count))
            start, stop = keys[first], keys[first + count]
        else:
            start = int(rng.integers(1, len(packets) - count))
            stop = start + count
        shift = (stop - start) * step if close else 0
        return packets[:start] + list(_shifted(packets[stop:], -shift))

    rewrite(path, change)


def repeat_group(path: str | os.PathLike, seed: int) -> None:
    """Write one group of pictures twice; all later packets are delayed by its length."""

    def change(packets: list[CodedPicture]) -> list[CodedPicture]:
        keys = _keys(path, packets, 3)
        first = int(np.random.default_rng(seed).integers(0, len(keys) - 1))
        start, stop = keys[first], keys[first + 1]
        length = (stop - start) * _step(packets)
        return packets[:stop] + list(_shifted(packets[start:], length))

    rewrite(path, change)


def _step(packets: list[CodedPicture]) -> int:
    return int(np.median(np.diff(sorted(p.pts for p in packets))))


def _shifted(packets: list[CodedPicture], by: int) -> Iterator[CodedPicture]:
    return (replace(p, pts=p.pts + by, dts=p.dts + by) for p in packets)


def _keys(path: str | os.PathLike, packets: list[CodedPicture], least: int) -> list[int]:
    keys = [i for i, p in enumerate(packets) if p.is_key]
    if len(keys) < least:
        raise EpicError(f"{Path(path)}: {len(keys)} key frames; expected {least} or more")
    return keys
