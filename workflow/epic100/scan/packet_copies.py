"""Packets as the scan passes them to a decoder, and decoder errors that are no damage."""

import errno

import av

from epic100.scan.h264 import extradata_pps, extradata_sps


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


def check_memory(error: Exception) -> None:
    """Raise MemoryError for errors about too little memory, which must not count as damage.

    Raises:
        MemoryError: `error` is about memory.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError("Cannot allocate memory") from error
