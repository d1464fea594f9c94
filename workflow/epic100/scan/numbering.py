"""The numbers of H.264 pictures in order of decoding: what is lost or out of place.

Numbers of clauses are those of Rec. ITU-T H.264 (08/2021).
"""

from epic100.scan.h264 import SliceHeader, StreamSettings

MAX_REFERENCES = 16  # pictures that a decoder keeps at most, clause A.3.1


class Numbering:
    """Follows the numbers of pictures in order of decoding (clauses 7.4.3 and 8.2.1.1)."""

    def __init__(self, settings: StreamSettings, sequence: int = 0):
        self._settings = settings
        self._frame_num: int | None = None  # of the last reference picture
        self._order = 0  # likewise
        self._since_break = 0
        self.sequence = sequence  # numbers the stretches within which order counts can be compared

    @property
    def after_break(self) -> bool:
        """Whether pictures may still let go of references from before a cut or a joint."""
        return self._since_break <= MAX_REFERENCES

    def follow(self, header: SliceHeader, is_key: bool) -> tuple[bool, int | None]:
        """(whether `frame_num` goes on as it must, order count in its sequence or None).

        At a key frame that is no IDR picture a stream that was cut or joined may start anew.
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
            span = 1 << self._settings.poc_bits  # order: the nearest number with these low bits
            order = self._order + (header.poc_lsb - self._order + span // 2) % span - span // 2
        elif self._settings.poc_type == 2 and header.reference:
            order = self._order + 2  # shown as decoded; `frame_num` tells whether all are there
        if header.reference:
            self._since_break += 1
            self._frame_num, self._order = header.frame_num, order or 0
        elif self._frame_num is None:
            self._frame_num = header.frame_num - 1
        return goes_on, order
