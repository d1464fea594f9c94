"""Check the coded bytes of an H.264 stream packet by packet, and make its pictures taller.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

import math
from dataclasses import replace

from epic100.scan.damage import BROKEN_UNITS, NUMBERING, Packet
from epic100.scan.h264 import Numbering, is_arithmetic, parse_sps, slice_header, taller
from epic100.video.nal import IDR, PPS, SLICE, SPS, SetRecord, kind_of, nal_units, sized

# At least this many macroblocks are added below each picture, as room for garbage to run into.
MACROBLOCKS_BELOW = 2048


class CodedStream:
    """A stream whose coded bytes are not checked here: only its decoder judges them.

    Attributes:
        rows: Number of rows of macroblocks that are added below each picture.
        extradata: The parameter sets for the decoder, which declare taller pictures.
        is_arithmetic: Whether slices and numbers are read, and all pictures are coded with CABAC
            (clause 7.4.2.2). Without it, a flipped bit may change only a sign, which no syntax
            reveals.
        after_break: Whether pictures may still release references from before a cut or splice.
    """

    rows = 0
    extradata = b""
    is_arithmetic = after_break = False

    def examine(self, data: bytes, entry: bytes, record: Packet) -> bytes | None:
        """Check the bytes of a packet before it is decoded; note faults and numbers in its record.

        Args:
            data: The bytes of the packet.
            entry: The decoder settings of a sample entry that begins here, or b"".
            record: The record of the packet, which is changed.

        Returns:
            Other bytes to decode in place of these; None: decode the packet as it is.
        """

    def restart(self) -> None:
        """Treat the next packet as the first one of another part of the file."""


class H264Stream(CodedStream):
    """Checks the packets of an H.264 stream in decoding order, and makes their pictures taller.

    The decoder always gets NAL units with lengths. In a file with start codes, as in MPEG-TS and
    AVI, they are replaced by lengths.

    Args:
        extradata: The avcC record of the file, or its parameter sets with start codes.

    Attributes:
        settings: The sequence parameter set in force.

    Raises:
        ValueError: The record is of another format or broken, or its parameter sets differ.
    """

    def __init__(self, extradata: bytes):
        record = SetRecord.of("h264", extradata)
        if not (record.is_whole and record.of_kind(SPS)):
            raise ValueError("not a whole avcC record, and no parameter sets")
        all_settings = [parse_sps(sps) for sps in record.of_kind(SPS)]
        if any(settings != all_settings[0] for settings in all_settings):
            raise ValueError("several settings in one stream")
        self.settings, self._length_size = all_settings[0], record.length_size
        # The head of an avcC record is its version (1), three bytes of the SPS that state profile,
        # constraints and level, and a byte that states lengths of four bytes (0xff).
        if not record.head:
            first_sps, *_ = record.of_kind(SPS)
            record = replace(record, head=b"\1" + first_sps[1:4] + b"\xff")
        # The decoder gets units with lengths of this many bytes.
        self._written_length = record.length_size
        self._numbering, self.is_arithmetic = Numbering(self.settings), bool(record.of_kind(PPS))
        # The rows of an interlaced picture come in pairs, so their number must be even.
        self.rows = 2 * math.ceil(MACROBLOCKS_BELOW / self.settings.width / 2)
        # The sets are noted and made taller, so `rows` must be known before.
        self.extradata = replace(record, sets=list(map(self._note_set, record.sets))).packed()

    def examine(self, data: bytes, entry: bytes, record: Packet) -> bytes | None:
        """Check the units of a packet, and return other bytes if they must differ for the decoder.

        They differ if the packet brings parameter sets, which are made taller, or has start codes.
        """
        record.sequence = self._numbering.sequence
        units = _sets_of(entry) if entry else []
        is_first_slice, changed = True, bool(units) or not self._length_size
        try:
            units += nal_units(data, self._length_size)
        except ValueError:
            record.blame(BROKEN_UNITS)
            return None
        for number, unit in enumerate(units):
            unit_type = kind_of("h264", unit)
            if unit_type in (SPS, PPS):
                units[number] = self._note_set(unit)
                changed |= unit_type == SPS
            elif unit_type in (SLICE, IDR):
                self._check_slice(unit, is_first_slice, record)
                is_first_slice = False
        return b"".join(sized(unit, self._written_length) for unit in units) if changed else None

    def restart(self) -> None:
        """Forget how pictures were numbered, since the numbers of another part start anew."""
        self._numbering = Numbering(self.settings, self._numbering.sequence)

    def _note_set(self, unit: bytes) -> bytes:
        """Note the settings of a parameter set, and return the set for taller pictures."""
        try:
            if kind_of("h264", unit) == PPS:
                self.is_arithmetic &= is_arithmetic(unit)
                return unit
            settings = parse_sps(unit)
            if settings != self.settings:
                self.settings = settings
                self._numbering = Numbering(settings, self._numbering.sequence)
            return taller(unit, self.rows)
        except ValueError:  # The decoder reports a corrupted set.
            # A PPS that cannot be read may be one without CABAC.
            self.is_arithmetic &= kind_of("h264", unit) != PPS
            return unit

    def _check_slice(self, unit: bytes, is_first: bool, record: Packet) -> None:
        """Check the numbers of a packet's first slice, and note them in the packet's record."""
        header = slice_header(unit, self.settings) if is_first else None
        # The first slice of a picture begins at macroblock 0.
        if is_first and (header is None or header.first):
            record.blame(NUMBERING)
        elif is_first and header is not None:
            # With gradual refresh, what the container calls a key frame needs other pictures.
            record.is_key &= header.intra
            goes_on, record.order = self._numbering.follow(header, record.is_key)
            record.reference, record.sequence = header.reference, self._numbering.sequence
            self.after_break = self._numbering.after_break
            if not goes_on:
                record.blame(NUMBERING)


def _sets_of(entry: bytes) -> list[bytes]:
    """The parameter sets of a sample entry that begins at a packet.

    A decoder would take them from beside the packet, where the scan could not change them.
    """
    record = SetRecord.of("h264", entry)
    # The decoder reports a corrupted record.
    return record.sets if record.is_whole else []
