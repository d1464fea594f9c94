"""The end of an H.264 sequence parameter set: cropping and the encoder's notes (VUI).

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

from dataclasses import dataclass

from epic100.scan.h264 import Bits, parse_sps

_EXTENDED_SAR = 255  # table E-1


@dataclass(frozen=True)
class Usability:
    """Cropping and fixed frame rate of a stream.

    Attributes:
        crop: (left, right, top, bottom) in units of clause 7.4.2.1.1.
        fixed_fps: Frames per second if the encoder states that all have the same length, else 0.
    """

    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    fixed_fps: float = 0.0


def usability(sps: bytes) -> Usability:
    """Read cropping and VUI (clauses 7.3.2.1.1 and E.1.1) of a set, including its NAL header.

    Raises:
        ValueError: The set is broken.
    """
    settings = parse_sps(sps)
    data = sps.replace(b"\0\0\3", b"\0\0")
    bits = Bits(int.from_bytes(data, "big"), 8 * len(data))
    whole = bits.left
    bits.left = whole - settings.height_at[1]
    if not bits.u(1):
        bits.u(1)
    bits.u(1)
    crop = (bits.ue(), bits.ue(), bits.ue(), bits.ue()) if bits.u(1) else (0, 0, 0, 0)
    if not bits.u(1):
        return Usability(crop)
    if bits.u(1) and bits.u(8) == _EXTENDED_SAR:
        bits.u(32)
    if bits.u(1):
        bits.u(1)
    if bits.u(1):
        bits.u(4)
        if bits.u(1):
            bits.u(24)
    if bits.u(1):
        bits.ue(), bits.ue()
    if not bits.u(1):
        return Usability(crop)
    units, scale, fixed = bits.u(32), bits.u(32), bits.u(1)
    # The rate counts both fields of a frame (clause E.2.1).
    return Usability(crop, scale / units / 2 if units and fixed else 0.0)
