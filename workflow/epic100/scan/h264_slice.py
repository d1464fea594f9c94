"""H.264 slice headers, up to their numbers, which reveal lost and misplaced pictures.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

from typing import NamedTuple

from epic100.scan.h264 import INTRA, StreamSettings
from epic100.video.nal import IDR, Bits

_SI = 4  # slice type modulo 5, table 7-6
_TYPES, _SETS = 10, 256  # numbers of slice types and of picture parameter sets
_BYTES = 24  # The numbers of a header are within so many.
MAX_REFERENCES = 16  # most pictures that a decoder keeps, clause A.3.1


class SliceHeader(NamedTuple):
    """What a slice says of itself and of its picture.

    Attributes:
        first: Its first macroblock; 0 if it begins a picture.
        kind: Slice type modulo 5.
        poc_lsb: Low bits of the picture order count; None if the stream does not code it.
    """

    first: int
    kind: int
    idr: bool
    reference: bool
    frame_num: int
    poc_lsb: int | None

    @property
    def intra(self) -> bool:
        """Whether it refers to no other picture."""
        return self.kind in (INTRA, _SI)


def slice_header(nal: bytes, stream: StreamSettings) -> SliceHeader | None:
    """Read the numbers of a header (clause 7.3.3).

    Args:
        nal: The NAL unit.
        stream: The sequence parameter set in force.

    Returns:
        The header, or None if no slice begins like this.
    """
    bits, idr, reference = Bits(nal[1:_BYTES]), nal[0] & 31 == IDR, bool(nal[0] & 0x60)
    try:
        first, kind, number = bits.ue(), bits.ue(), bits.ue()
        bits.at += 2 * stream.colour_planes
        frame_num = bits.u(stream.frame_num_bits)
        is_frame = stream.progressive or not bits.flag()
        bits.at += not is_frame  # which field
        bits.skip(idr)
        poc_lsb = bits.u(stream.poc_bits) if stream.poc_bits else None
    except ValueError:
        return None
    if kind >= _TYPES or number >= _SETS:
        return None
    return SliceHeader(first, kind % 5, idr, reference, frame_num, poc_lsb)


class Numbering:
    """Follows the numbers of pictures in decoding order (clauses 7.4.3 and 8.2.1.1).

    Args:
        settings: The parameter set in force.
        sequence: Number of the current sequence; order counts are comparable only within one.
    """

    def __init__(self, settings: StreamSettings, sequence: int = 0):
        self._settings = settings
        self._frame_num: int | None = None  # of the last reference picture
        self._order = 0  # of the same picture
        self._since_break = 0
        self.sequence = sequence

    @property
    def after_break(self) -> bool:
        """Whether pictures may still release references from before a cut or splice."""
        return self._since_break <= MAX_REFERENCES

    def follow(self, header: SliceHeader, is_key: bool) -> tuple[bool, int | None]:
        """Check the numbers of the next picture.

        A stream that was cut or spliced may restart its numbering at a key frame that is not IDR.

        Returns:
            Whether `frame_num` continues as it must, and the order count in its sequence or None.
        """
        span = 1 << self._settings.frame_num_bits
        goes_on = self._frame_num is not None and (
            header.frame_num == (self._frame_num + 1) % span or self._settings.gaps_allowed
        )
        if header.idr:
            self.sequence += 1
            self._since_break = MAX_REFERENCES + 1
            self._order, goes_on = 0, header.frame_num == 0
        elif self._frame_num is None or (is_key and not goes_on):
            self.sequence += 1
            self._since_break = 0
            goes_on = True
        order = None
        if header.poc_lsb is not None:
            span = 1 << self._settings.poc_bits  # order is the nearest number with these low bits
            order = self._order + (header.poc_lsb - self._order + span // 2) % span - span // 2
        elif self._settings.poc_type == 2 and header.reference:
            order = self._order + 2  # shown as decoded; `frame_num` reveals missing ones
        if header.reference:
            self._since_break += 1
            self._frame_num, self._order = header.frame_num, order or 0
        elif self._frame_num is None:
            self._frame_num = header.frame_num - 1
        return goes_on, order
