"""Check the coded bytes of an H.264 stream packet by packet, and make its pictures taller.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

import math
from dataclasses import replace

from epic100.scan.damage import BROKEN_UNITS, NUMBERING, Packet
from epic100.scan.h264 import (
    MAX_REFERENCES,
    Numbering,
    StreamSettings,
    is_arithmetic,
    parse_sps,
    slice_header,
    with_more_rows,
)
from epic100.video.nal import IDR, PPS, SLICE, SPS, SetRecord, kind_of, nal_units, sized

# At least this many macroblocks are added below each picture, as room for garbage to run into.
MACROBLOCKS_BELOW = 2048


class CodedStream:
    """A stream whose coded bytes are not read here: only its decoder finds damage.

    Attributes:
        rows: Number of rows of macroblocks that are added below each picture.
        is_arithmetic: Whether slices and numbers are read, and all pictures are coded with CABAC
            (clause 7.4.2.2). Without it, a flipped bit may change only a sign, which no syntax
            reveals.
        after_break: Whether a picture may still release references from before a cut or splice.
            The decoder does not have them, and logs an error, which is no damage.
    """

    rows = 0
    is_arithmetic = after_break = False

    def examine(self, data: bytes, entry: bytes, record: Packet) -> bytes | None:
        """Check the bytes of a packet before it is decoded; here nothing is checked.

        Args:
            data: The bytes of the packet.
            entry: The extradata of a sample entry that begins at this packet, or b"".
            record: The packet as the scan records it. A subclass that reads the bytes sets its
                fault, its numbers and `is_key`. This class reads nothing, and leaves it as it is.

        Returns:
            The bytes to decode in place of `data`; None, as always here: decode the packet as it
            is.
        """

    def restart(self) -> None:
        """Treat the next packet as the first one of another edit (`PacketRecorder`)."""


class H264Stream(CodedStream):
    """Checks the packets of an H.264 stream in decoding order, and makes their pictures taller.

    The decoder always gets NAL units with lengths. In a file with start codes, as in MPEG-TS and
    AVI, they are replaced by lengths.

    Attributes:
        settings: The fields of the sequence parameter set in force.
        extradata: The avcC record for the decoder, whose parameter sets declare taller pictures.
    """

    def __init__(self, extradata: bytes):
        """Read the parameter sets of a file, and make them declare taller pictures.

        In the room below a picture, garbage shows itself (`epic100.scan.h264`).

        Args:
            extradata: The avcC record of the file, or its parameter sets with start codes.

        Raises:
            ValueError: The record is of another format or broken, or its sequence parameter sets
                differ.
        """
        record = SetRecord.of("h264", extradata)
        self.settings = _only_settings(record)
        # In the file, each unit has a length of this many bytes; 0 means start codes.
        self._length_size = record.length_size
        self._numbering = Numbering(self.settings)
        # Each PPS must state CABAC: `_note_set` sets this to False for one that does not.
        self.is_arithmetic = bool(record.of_kind(PPS))
        # The rows of an interlaced picture come in pairs, so their number must be even.
        self.rows = 2 * math.ceil(MACROBLOCKS_BELOW / self.settings.width / 2)
        # `_note_set` reads `rows` and `settings`, and may set `is_arithmetic`, so it comes last.
        taller_sets = [self._note_set(unit) for unit in record.sets]
        self.extradata = replace(record, head=_avcc_head(record), sets=taller_sets).packed()

    def examine(self, data: bytes, entry: bytes, record: Packet) -> bytes | None:
        """Check the NAL units of a packet before it is decoded.

        The decoder gets other bytes if the packet has start codes, or brings parameter sets, which
        are made taller.
        """
        record.sequence = self._numbering.sequence
        units = _sets_of(entry) if entry else []
        changed = bool(units) or not self._length_size
        is_first_slice = True
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
            # Later slices of a picture have the same numbers.
            elif unit_type in (SLICE, IDR) and is_first_slice:
                self._check_slice(unit, record)
                is_first_slice = False
        # Where the file has start codes, the avcC record states lengths of four bytes.
        length_size = self._length_size or 4
        return b"".join(sized(unit, length_size) for unit in units) if changed else None

    def restart(self) -> None:
        """Forget how pictures were numbered, since the numbers of another edit start anew."""
        self._numbering = Numbering(self.settings, self._numbering.sequence)

    def _note_set(self, unit: bytes) -> bytes:
        """Take the settings from a parameter set, and return the set for taller pictures."""
        try:
            if kind_of("h264", unit) == PPS:
                self.is_arithmetic &= is_arithmetic(unit)
                return unit
            settings = parse_sps(unit)
            if settings != self.settings:
                self.settings = settings
                self._numbering = Numbering(settings, self._numbering.sequence)
            return with_more_rows(unit, self.rows)
        except ValueError:
            # The decoder gets a corrupted set as it is, and reports it. A PPS that cannot be read
            # may be one without CABAC.
            self.is_arithmetic &= kind_of("h264", unit) != PPS
            return unit

    def _check_slice(self, unit: bytes, record: Packet) -> None:
        """Check the numbers in the header of a packet's first slice, and put them into `record`."""
        header = slice_header(unit, self.settings)
        # The first slice of a picture begins at macroblock 0. A slice that begins elsewhere shows
        # that the first one is lost.
        if header is None or header.first_macroblock != 0:
            record.blame(NUMBERING)
            return
        # With gradual refresh, what the container calls a key frame needs other pictures.
        record.is_key &= header.intra
        is_consecutive, record.order = self._numbering.follow(header, record.is_key)
        record.reference = header.reference
        record.sequence = self._numbering.sequence
        # A decoder keeps at most MAX_REFERENCES pictures. After so many new ones, none of those
        # from before the break is left that a picture could release.
        self.after_break = self._numbering.since_break <= MAX_REFERENCES
        if not is_consecutive:
            record.blame(NUMBERING)


def _only_settings(record: SetRecord) -> StreamSettings:
    """Read the settings on which all sequence parameter sets of a file agree.

    Raises:
        ValueError: The record is broken, has no such set, or has sets that differ.
    """
    sps_units = record.of_kind(SPS)
    if not (record.is_whole and sps_units):
        raise ValueError("the parameter sets break off, or there is no sequence parameter set")
    settings = parse_sps(sps_units[0])
    if any(parse_sps(sps) != settings for sps in sps_units):
        raise ValueError("several settings in one stream")
    return settings


def _avcc_head(record: SetRecord) -> bytes:
    """Return the bytes of an avcC record before its sets, also for sets with start codes.

    They are the version (1), three bytes of the SPS that state profile, constraints and level, and
    a byte that states lengths of four bytes (0xff).
    """
    return record.head or b"\1" + record.of_kind(SPS)[0][1:4] + b"\xff"


def _sets_of(entry: bytes) -> list[bytes]:
    """Read the parameter sets of a sample entry that begins at a packet.

    The scan puts them into the packet, since it must make them taller. A decoder would take them
    from the side data of the packet, as they are.
    """
    record = SetRecord.of("h264", entry)
    # A corrupted record is left to the decoder, which reports it.
    return record.sets if record.is_whole else []
