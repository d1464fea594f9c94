"""The bytes of a stream of H.264, packet by packet: what is wrong, and what the decoder gets.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

from dataclasses import replace

from epic100.scan.damage import BROKEN_UNITS, NUMBERING, Packet
from epic100.scan.h264 import Numbering, is_arithmetic, parse_sps, slice_header, taller
from epic100.video.nal import IDR, PPS, SLICE, SPS, SetRecord, nal_units, sized

# At least this many are added below each picture, as room for garbage to run into.
MACROBLOCKS_BELOW = 2048


class CodedStream:
    """A stream whose bytes only its decoder judges.

    Attributes:
        rows: Rows of macroblocks that are added below each picture.
        extradata: What the decoder gets with taller pictures.
        is_arithmetic: Whether slices and numbers are read, and all pictures are coded with CABAC
            (clause 7.4.2.2). Without it, a flipped bit may change only a sign, which no syntax
            reveals.
        after_break: Whether pictures may still release references from before a cut or splice.
    """

    rows = 0
    extradata = b""
    is_arithmetic = after_break = False

    def examine(self, data: bytes, entry: bytes, seen: Packet) -> bytes | None:
        """Check the bytes of a packet before it is decoded.

        Args:
            data: Its bytes.
            entry: The head of a sample entry that begins here, or b"".
            seen: What is known about it.

        Returns:
            What to decode in place of its bytes, or None.
        """

    def restart(self) -> None:
        """Take the next packet for the first one of another part of the file."""


class H264Stream(CodedStream):
    """Checks packets of H.264 in decoding order, and makes their pictures taller.

    Start codes, as in MPEG-TS and AVI, become lengths here: the decoder always gets lengths.

    Args:
        extradata: The avcC record of the file, or its parameter sets with start codes.

    Attributes:
        settings: The sequence parameter set in force.

    Raises:
        ValueError: The record is of another format or broken, or its settings differ.
    """

    def __init__(self, extradata: bytes):
        record = SetRecord.of("h264", extradata)
        if not (record.is_whole and record.of_kind(SPS)):
            raise ValueError("not a whole avcC record, and no parameter sets")
        all_settings = [parse_sps(sps) for sps in record.of_kind(SPS)]
        if any(settings != all_settings[0] for settings in all_settings):
            raise ValueError("several settings in one stream")
        self.settings, self._length_size = all_settings[0], record.length_size
        # The head states version, profile, its constraints, level, and lengths of four bytes.
        if not record.head:
            record = replace(record, head=b"\1" + record.of_kind(SPS)[0][1:4] + b"\xff")
        self._written_size = record.length_size
        self._numbering, self.is_arithmetic = Numbering(all_settings[0]), bool(record.of_kind(PPS))
        self.rows = -(-MACROBLOCKS_BELOW // all_settings[0].width)
        # The rows of an interlaced picture come in pairs.
        self.rows += self.rows % 2
        self.extradata = replace(record, sets=list(map(self._take_set, record.sets))).packed()

    def examine(self, data: bytes, entry: bytes, seen: Packet) -> bytes | None:
        """Also gives other bytes for packets that bring sets, which are made taller too."""
        seen.sequence = self._numbering.sequence
        units = _sets_of(entry) if entry else []
        is_first, changed = True, bool(units) or not self._length_size
        try:
            units += nal_units(data, self._length_size)
        except ValueError:
            seen.blame(BROKEN_UNITS)
            return None
        for number, unit in enumerate(units):
            unit_type = unit[0] & 31
            if unit_type in (SPS, PPS):
                units[number] = self._take_set(unit)
                changed |= unit_type == SPS
            elif unit_type in (SLICE, IDR):
                self._check_slice(unit, is_first, seen)
                is_first = False
        return b"".join(sized(unit, self._written_size) for unit in units) if changed else None

    def restart(self) -> None:
        """Also forget how pictures were numbered."""
        self._numbering = Numbering(self.settings, self._numbering.sequence)

    def _take_set(self, unit: bytes) -> bytes:
        """Note a parameter set. Returns it for taller pictures."""
        try:
            if unit[0] & 31 == PPS:
                self.is_arithmetic &= is_arithmetic(unit)
                return unit
            settings = parse_sps(unit)
            if settings != self.settings:
                self.settings = settings
                self._numbering = Numbering(settings, self._numbering.sequence)
            return taller(unit, self.rows)
        except ValueError:  # The decoder reports a corrupted set.
            self.is_arithmetic &= unit[0] & 31 != PPS
            return unit

    def _check_slice(self, nal: bytes, is_first: bool, seen: Packet) -> None:
        header = slice_header(nal, self.settings) if is_first else None
        if is_first and (header is None or header.first):
            seen.blame(NUMBERING)
        elif is_first and header is not None:
            # With gradual refresh, what the container calls a key frame needs other pictures.
            seen.is_key &= header.intra
            goes_on, seen.order = self._numbering.follow(header, seen.is_key)
            seen.reference, seen.sequence = header.reference, self._numbering.sequence
            self.after_break = self._numbering.after_break
            if not goes_on:
                seen.blame(NUMBERING)


def _sets_of(entry: bytes) -> list[bytes]:
    """The parameter sets of a sample entry that begins at a packet.

    A decoder would take them from beside the packet, where the scan could not change them.
    """
    record = SetRecord.of("h264", entry)
    # The decoder reports a corrupted record.
    return record.sets if record.is_whole else []
