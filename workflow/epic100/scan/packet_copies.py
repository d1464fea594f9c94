"""Packets as the scan passes them to a decoder, and decoder errors that are no damage."""

import errno
from typing import NamedTuple

import av

from epic100.scan.h264 import (
    SPS,
    StreamSettings,
    extradata_pps,
    extradata_sps,
    parse_sps,
    taller,
)


def in_the_open(packet: av.Packet, data: bytes | memoryview) -> av.Packet:
    """Copy a packet with this content, not hidden by an edit list.

    Hidden pictures must be decoded too, because later ones may depend on them.
    """
    fresh = av.Packet(bytes(data))
    fresh.pts, fresh.dts, fresh.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return fresh


def with_new_sets(packet: av.Packet, data: memoryview, length_size: int) -> memoryview:
    """The data of a packet of H.264, after the parameter sets of a sample entry that begins there.

    A decoder would take these sets from beside the packet, where the scan could not change them.

    Args:
        packet: The packet.
        data: Its data.
        length_size: Bytes of the length before each NAL unit.
    """
    if not packet.has_sidedata("new_extradata"):
        return data
    entry = bytes(packet.get_sidedata("new_extradata"))
    try:
        sets = [sps for sps, _ in extradata_sps(entry)] + extradata_pps(entry)
    except (ValueError, IndexError):  # corrupted: the decoder reports it
        return data
    units = (len(unit).to_bytes(length_size, "big") + unit for unit in sets)
    return memoryview(b"".join([*units, data]))


class Taller(NamedTuple):
    """A packet with taller pictures.

    Attributes:
        units: (start, stop) of its NAL units.
        settings: Those of the sequence parameter sets in it, with the true height.
    """

    data: memoryview
    units: list[tuple[int, int]]
    settings: list[StreamSettings]


def with_taller_sets(
    data: memoryview, units: list[tuple[int, int]], length_size: int, rows: int
) -> Taller:
    """Make sets inside the stream taller too, or they would override those of the extradata.

    Args:
        data: A packet of H.264.
        units: (start, stop) of its NAL units.
        length_size: Bytes of the length before each NAL unit.
        rows: How many rows of macroblocks are added.
    """
    parts, places, found, position = [], [], [], 0
    for start, stop in units:
        unit = bytes(data[start:stop])
        if unit[0] & 31 == SPS:
            try:
                settings = parse_sps(unit)
                unit = taller(unit, rows)
                found.append(settings)
            except ValueError:
                pass  # corrupted: the decoder reports it
        parts += [len(unit).to_bytes(length_size, "big"), unit]
        start = position + length_size
        position = start + len(unit)
        places.append((start, position))
    return Taller(memoryview(b"".join(parts)), places, found)


def check_memory(error: Exception) -> None:
    """Raise MemoryError for errors about too little memory, which must not count as damage.

    Raises:
        MemoryError: `error` is about memory.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError("Cannot allocate memory") from error
