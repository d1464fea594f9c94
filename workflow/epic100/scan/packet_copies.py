"""Packets as the scan hands them to a decoder, and what it does not take for the file's."""

import errno

import av


def in_the_open(packet: av.Packet, data: bytes | memoryview) -> av.Packet:
    """A packet of this content that no edit list hides: later pictures may be built on it."""
    fresh = av.Packet(bytes(data))
    fresh.pts, fresh.dts, fresh.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return fresh


def check_memory(error: Exception) -> None:
    """Too little memory is no property of the file: it must not pass for damage.

    Raises:
        MemoryError: Where that is what `error` is about.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError("Cannot allocate memory") from error
