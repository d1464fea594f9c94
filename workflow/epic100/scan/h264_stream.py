"""Check the coded bytes of a stream packet by packet, and make the pictures of H.264 taller.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

import math
from dataclasses import replace

from epic100.scan.damage import BROKEN_UNITS, NUMBERING, OTHER_SETS, Packet
from epic100.scan.h264 import (
    MAX_REFERENCES,
    Numbering,
    is_arithmetic,
    parse_sps,
    slice_header,
    with_more_rows,
)
from epic100.video.nal import (
    IDR,
    SLICE,
    SPS,
    SetRecord,
    length_size_of,
    nal_units,
    sets_in,
    sized,
    unit_type,
)

# The minimum number of macroblocks that are added below each picture, for garbage to run into.
MACROBLOCKS_BELOW = 2048


class CodedStream:
    """A stream whose slices are not read here: its decoder finds the damage in them.

    A slice refers to its parameter sets by number only, and the reader takes those in the header of
    the file. So a packet that brings other ones makes the pictures that follow doubtful, until a
    packet brings the sets of the header again.

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

    def __init__(self, codec: str, extradata: bytes):
        """Start before the first packet.

        Args:
            codec: Name of the codec.
            extradata: The parameter sets in the header of the file.
        """
        self._codec = codec
        self._header = extradata
        self._length_size = length_size_of(codec, extradata)
        self._has_other_sets = False

    def examine(self, data: bytes, record: Packet) -> bytes | None:
        """Check the bytes of a packet before it is decoded.

        Args:
            data: The bytes of the packet.
            record: The packet as the scan records it. Its defect is set, and for H.264 its numbers
                and `is_key`.

        Returns:
            The bytes to decode in place of `data`; None: decode the packet as it is.
        """
        if not self._length_size:
            return None
        try:
            units = list(nal_units(data, self._length_size))
        except ValueError:
            record.blame(BROKEN_UNITS)
            return None
        if sets := sets_in(self._codec, units):
            self._has_other_sets = any(unit not in self._header for unit in sets)
        if self._has_other_sets:
            record.blame(OTHER_SETS)
        return self.examine_units(units, record)

    def examine_units(self, units: list[bytes], record: Packet) -> bytes | None:
        """Check the NAL units of a packet; here nothing more is checked."""


class H264Stream(CodedStream):
    """Checks the packets of an H.264 stream in decoding order, and makes their pictures taller.

    Attributes:
        settings: The fields of the sequence parameter set.
        extradata: The avcC record for the decoder, whose parameter sets declare taller pictures.
    """

    def __init__(self, extradata: bytes):
        """Read the parameter sets of a file, and make them declare taller pictures.

        In the room below a picture, garbage shows itself (`epic100.scan.h264`).

        Args:
            extradata: The avcC record of the file.

        Raises:
            ValueError: The record is of another format or broken, or its sequence parameter sets
                differ.
        """
        super().__init__("h264", extradata)
        record = SetRecord.of(extradata)
        self.settings, *others = map(parse_sps, record.sps)
        if any(settings != self.settings for settings in others):
            raise ValueError("several settings in one stream")
        self._numbering = Numbering(self.settings)
        self.is_arithmetic = all(map(is_arithmetic, record.pps))
        # The rows of an interlaced picture come in pairs, so their number must be even.
        self.rows = 2 * math.ceil(MACROBLOCKS_BELOW / self.settings.width / 2)
        taller_sets = [with_more_rows(unit, self.rows) for unit in record.sps]
        self.extradata = replace(record, sps=taller_sets).packed()

    def examine(self, data: bytes, record: Packet) -> bytes | None:
        """Check the bytes of a packet; also note the sequence of the pictures before it."""
        record.sequence = self._numbering.sequence
        return super().examine(data, record)

    def examine_units(self, units: list[bytes], record: Packet) -> bytes | None:
        """Check the numbers of a picture, and take sequence parameter sets out of its packet.

        The decoder keeps the sets of the header, which are taller.
        """
        slices = [unit for unit in units if unit_type(unit) in (SLICE, IDR)]
        # Later slices of a picture have the same numbers.
        if slices:
            self._check_slice(slices[0], record)
        others = [unit for unit in units if unit_type(unit) != SPS]
        if len(others) == len(units):
            return None
        return b"".join(sized(unit, self._length_size) for unit in others)

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
        # A decoder keeps at most MAX_REFERENCES pictures. After that number of new ones, no picture
        # from before the break is left that could be released.
        self.after_break = self._numbering.since_break <= MAX_REFERENCES
        if not is_consecutive:
            record.blame(NUMBERING)
