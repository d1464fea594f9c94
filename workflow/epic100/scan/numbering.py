"""Numbers of H.264 pictures in decoding order: finds lost and misplaced pictures.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

from epic100.scan.h264 import SliceHeader, StreamSettings

MAX_REFERENCES = 16  # most pictures that a decoder keeps, clause A.3.1


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
