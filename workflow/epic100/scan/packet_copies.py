"""Packets as the scan passes them to a decoder, and decoder errors that are no damage."""

import errno

import av


def in_the_open(packet: av.Packet, data: bytes | memoryview) -> av.Packet:
    """Copy a packet with this content, not hidden by an edit list.

    Hidden pictures must be decoded too, because later ones may depend on them.
    """
    fresh = av.Packet(bytes(data))
    fresh.pts, fresh.dts, fresh.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return fresh


def check_memory(error: Exception) -> None:
    """Raise MemoryError for errors about too little memory, which must not count as damage.

    Raises:
        MemoryError: `error` is about memory.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError("Cannot allocate memory") from error
