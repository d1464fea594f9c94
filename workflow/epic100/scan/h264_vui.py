"""H.264 parameter sets to their last bit: cropping, the encoder's notes (VUI), and where they end.

A decoder stops reading a set when it has what it needs. A flipped bit that changes the length of a
field shifts all that follows, up to the end, so a corrupted set rarely ends where it must: with a
stop bit and less than a byte of zeros (clause 7.3.2.11). Clause numbers refer to Rec. ITU-T H.264
(08/2021).
"""

from dataclasses import dataclass

from epic100.scan.h264 import HIGH_PROFILES, Bits, parse_sps, skip_scaling_list

_EXTENDED_SAR = 255  # table E-1
_MOST_CHROMA_OFFSET = 12  # clause 7.4.2.2
_GBR = 0  # matrix_coefficients of pictures that are not converted; only with chroma format 3
_NO_MATRICES = {3, *range(18, 256)}  # reserved: matrix_coefficients, table E-5 and H.273


@dataclass(frozen=True)
class Usability:
    """Cropping and fixed frame rate of a stream.

    Attributes:
        crop: (left, right, top, bottom) in units of clause 7.4.2.1.1.
        fixed_fps: Frames per second if the encoder states that all have the same length, else 0.
        whole: Whether the set ends where it must.
    """

    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    fixed_fps: float = 0.0
    whole: bool = True


def usability(sps: bytes) -> Usability:
    """Read cropping and VUI (clauses 7.3.2.1.1 and E.1.1) of a set, including its NAL header.

    Raises:
        ValueError: The set is broken.
    """
    settings = parse_sps(sps)
    bits = _bits_of(sps)
    bits.left -= settings.height_at[1]
    if not bits.u(1):
        bits.u(1)
    bits.u(1)
    crop = (bits.ue(), bits.ue(), bits.ue(), bits.ue()) if bits.u(1) else (0, 0, 0, 0)
    fps = _vui(bits, _chroma(sps)) if bits.u(1) else 0.0
    return Usability(crop, fps, _ends(bits))


def is_whole_pps(pps: bytes, sps: bytes) -> bool:
    """Whether a picture parameter set (clause 7.3.2.2) ends where it must.

    Sets with several slice groups are not checked and count as whole.

    Args:
        pps: The set, including its NAL header.
        sps: The sequence parameter set that it belongs to.

    Raises:
        ValueError: A set is broken.
    """
    bits = _bits_of(pps)
    bits.u(8), bits.ue(), bits.ue(), bits.u(2)
    if bits.ue():
        return True
    bits.ue(), bits.ue(), bits.u(1)
    if bits.u(2) == 3:
        raise ValueError("a reserved kind of weighted prediction")
    bits.se(), bits.se()
    if abs(bits.se()) > _MOST_CHROMA_OFFSET:
        raise ValueError("an impossible chroma_qp_index_offset")
    bits.u(3)
    if _ends(bits):
        return True
    eight = bits.u(1)  # transform_8x8_mode_flag
    if bits.u(1):
        for number in range(6 + (6 if _chroma(sps) == 3 else 2) * eight):
            if bits.u(1):
                skip_scaling_list(bits, 16 if number < 6 else 64)
    bits.se()
    return _ends(bits)


def _vui(bits: Bits, chroma: int) -> float:
    """Read the VUI up to its end; returns the fixed frame rate or 0."""
    if bits.u(1) and bits.u(8) == _EXTENDED_SAR:
        bits.u(32)
    if bits.u(1):
        bits.u(1)
    if bits.u(1):
        bits.u(4)
        if bits.u(1):
            matrix = (bits.u(16), bits.u(8))[1]
            if matrix in _NO_MATRICES or (matrix == _GBR and chroma != 3):
                raise ValueError("an impossible matrix of colours")
    if bits.u(1):
        bits.ue(), bits.ue()
    fps = 0.0
    if bits.u(1):
        units, scale, fixed = bits.u(32), bits.u(32), bits.u(1)
        # The rate counts both fields of a frame (clause E.2.1).
        fps = scale / units / 2 if units and fixed else 0.0
    one_more = 0  # low_delay_hrd_flag
    for _ in range(2):
        if bits.u(1):
            _skip_hrd(bits)
            one_more = 1
    bits.u(one_more + 1)
    if bits.u(1):
        bits.u(1)
        for _ in range(6):
            bits.ue()
    return fps


def _skip_hrd(bits: Bits) -> None:
    """Read over the parameters of a reference decoder (clause E.1.2)."""
    count = bits.ue() + 1
    bits.u(8)
    for _ in range(min(count, 32)):
        bits.ue(), bits.ue(), bits.u(1)
    bits.u(20)


def _chroma(sps: bytes) -> int:
    """Chroma format of a sequence parameter set; 1 is 4:2:0, 3 is 4:4:4."""
    bits = _bits_of(sps)
    bits.u(8)
    if bits.u(8) not in HIGH_PROFILES:
        return 1
    bits.u(16), bits.ue()
    return bits.ue()


def _bits_of(unit: bytes) -> Bits:
    data = unit.replace(b"\0\0\3", b"\0\0")
    return Bits(int.from_bytes(data, "big"), 8 * len(data))


def _ends(bits: Bits) -> bool:
    """Whether only the stop bit and zeros are left."""
    left = bits.left - 64  # `Bits` adds zeros after the end
    return left > 0 and bits.value >> 64 & ((1 << left) - 1) == 1 << (left - 1)
