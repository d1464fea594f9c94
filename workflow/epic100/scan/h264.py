"""Check the coded bytes of a stream packet by packet, and declare frames of H.264 taller.

A decoder reports a corrupted slice only if its syntax breaks. Most flipped bits do not break it:
the arithmetic decoder reads on, decodes garbage, and stops when the frame is full. So the frame is
declared taller than it is (`nal.with_more_rows`), and the decoder must ignore errors in the rows
below. A correct slice ends with its own end mark at the true last macroblock. Garbage runs on into
the rows below until it hits an error or stops at the wrong place. The decoder reports both, at no
cost.

The numbers in a slice header reveal lost and misplaced frames.

Clause numbers refer to Rec. ITU-T H.264 (08/2021). The standard numbers pictures: a picture is a
frame, or one of the two fields of an interlaced frame. Here both are called frames.
"""

import math
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from epic100.scan.damage import BROKEN_UNITS, NUMBERING, OTHER_SETS, Packet
from epic100.scan.nal import (
    IDR,
    SLICE,
    SPS,
    Bits,
    SetRecord,
    StreamSettings,
    is_arithmetic,
    length_size_of,
    nal_units,
    parse_sps,
    sets_in,
    sized,
    unit_type,
    with_more_rows,
)

# The minimum number of macroblocks that are added below each frame, for garbage to run into.
MACROBLOCKS_BELOW = 2048
# The maximum number of frames that a decoder keeps (clause A.3.1).
MAX_REFERENCES = 16
# A slice type modulo 5 is one of 5; I and SI refer to no other frame (table 7-6).
INTRA, _SI = 2, 4
# The numbers of slice types and of picture parameter sets; a larger number is invalid.
_TYPE_COUNT, _SET_COUNT = 10, 256
# All numbers that are read are in the first 24 bytes of a slice, so no more bytes are turned into
# bits.
_HEADER_BYTES = 24


class CodedStream:
    """Checks the packets of a stream in decoding order, and makes the frames of H.264 taller.

    A slice refers to its parameter sets by number only, and the reader takes those in the header of
    the file. So a packet that brings other ones makes the frames that follow doubtful, until a
    packet brings the sets of the header again.

    The slices of H.264 are read here. In a stream of another codec, or with unusual parameter sets,
    only the decoder finds damage in them.

    Attributes:
        settings: The fields of the sequence parameter set; None if the slices are not read.
        extradata: The parameter sets for the decoder. For H.264, they declare taller frames.
        rows: Number of rows of macroblocks that are added below each frame.
        is_arithmetic: Whether slices are read, and all frames are coded with CABAC (clause
            7.4.2.2). Without it, a flipped bit may change only a sign, which no syntax reveals.
        after_break: Whether a frame may still release references from before a cut or splice. The
            decoder does not have them, and logs an error, which is no damage.
    """

    def __init__(self, codec: str, extradata: bytes):
        """Start before the first packet.

        Args:
            codec: Name of the codec.
            extradata: The parameter sets in the header of the file; for H.264, the avcC record.
        """
        self._codec, self._header, self.extradata = codec, extradata, extradata
        self._length_size = length_size_of(codec, extradata)
        self._has_other_sets = False
        self.settings: StreamSettings | None = None
        self.rows, self.is_arithmetic, self.after_break = 0, False, False
        if codec == "h264":
            # Parameter sets that are corrupted or unusual stay as they are.
            with suppress(ValueError):
                self._declare_taller(SetRecord.of(extradata))

    def _declare_taller(self, record: SetRecord) -> None:
        """Read parameter sets of H.264, and make them declare taller frames.

        Raises:
            ValueError: They cannot be read, or differ.
        """
        settings, *others = map(parse_sps, record.sps)
        if any(other != settings for other in others):
            raise ValueError("several settings in one stream")
        is_cabac = all(map(is_arithmetic, record.pps))
        # The rows of an interlaced frame come in pairs, so their number must be even.
        rows = 2 * math.ceil(MACROBLOCKS_BELOW / settings.width / 2)
        taller_sets = [with_more_rows(unit, rows) for unit in record.sps]
        self.extradata = replace(record, sps=taller_sets).packed()
        self.settings, self.rows, self.is_arithmetic = settings, rows, is_cabac
        self._numbering = Numbering(settings)

    def examine(self, data: bytes, record: Packet) -> bytes | None:
        """Check the bytes of a packet before it is decoded.

        Args:
            data: The bytes of the packet.
            record: The packet as the scan records it. Its defect is set, and for H.264 its numbers
                and `is_key`.

        Returns:
            The bytes to decode in place of `data`; None: decode the packet as it is.
        """
        if self.settings:
            record.sequence = self._numbering.sequence
        if not self._length_size:
            return None
        try:
            units = list(nal_units(data, self._length_size))
        except ValueError:
            record.mark(BROKEN_UNITS)
            return None
        # The parameter sets stay in force until a packet brings others.
        sets = sets_in(self._codec, units)
        if sets:
            self._has_other_sets = any(unit not in self._header for unit in sets)
        if self._has_other_sets:
            record.mark(OTHER_SETS)
        if not self.settings:
            return None
        # The numbers in the first slice. Later slices of a frame have the same numbers.
        types = [unit_type(unit) for unit in units]
        for unit, type_number in zip(units, types, strict=True):
            if type_number in (SLICE, IDR):
                self._check_slice(unit, self.settings, record)
                break
        # The decoder must keep the sets of the header, which declare taller frames.
        if SPS not in types:
            return None
        others = [unit for unit, number in zip(units, types, strict=True) if number != SPS]
        return b"".join(sized(unit, self._length_size) for unit in others)

    def _check_slice(self, unit: bytes, settings: StreamSettings, record: Packet) -> None:
        """Check the numbers in the header of a packet's first slice, and put them into `record`."""
        header = slice_header(unit, settings)
        # The first slice of a frame begins at macroblock 0. A slice that begins elsewhere shows
        # that the first one is lost.
        if header is None or header.first_macroblock != 0:
            record.mark(NUMBERING)
            return
        # With gradual refresh, what the container calls a key frame needs other frames.
        record.is_key &= header.slice_type in (INTRA, _SI)
        is_consecutive = self._numbering.follow(header, record.is_key)
        record.order = self._numbering.order
        record.reference = header.reference
        record.sequence = self._numbering.sequence
        # A decoder keeps at most MAX_REFERENCES frames. After that number of new ones, no frame is
        # left from before the break that could be released.
        self.after_break = self._numbering.since_break <= MAX_REFERENCES
        if not is_consecutive:
            record.mark(NUMBERING)


class SliceHeader(NamedTuple):
    """Fields of a slice header (clause 7.4.3).

    Attributes:
        first_macroblock: Number of the first macroblock; 0 if the slice begins a frame.
        slice_type: Slice type modulo 5.
        idr: Whether the frame is IDR: decoding can begin there, and numbers start anew.
        reference: Whether other frames may depend on the frame.
        frame_num: Number of the frame, which counts reference frames.
        poc_lsb: Low bits of the picture order count; None if the stream does not code it.
    """

    first_macroblock: int
    slice_type: int
    idr: bool
    reference: bool
    frame_num: int
    poc_lsb: int | None


def slice_header(nal: bytes, stream: StreamSettings) -> SliceHeader | None:
    """Read the numbers in the header of a slice (clause 7.3.3).

    Args:
        nal: The NAL unit of the slice.
        stream: The sequence parameter set in force.

    Returns:
        The header, or None if no valid slice begins like this.
    """
    idr = unit_type(nal) == IDR
    reference = bool(nal[0] & 0x60)  # These two bits are nal_ref_idc.
    bits = Bits(nal[1:_HEADER_BYTES])
    try:
        first_macroblock, slice_type, set_number = bits.ue(), bits.ue(), bits.ue()
        frame_num = bits.u(stream.frame_num_bits)
        # In an interlaced stream, a flag says whether this is a field. A field has one more bit,
        # which tells the top field from the bottom one.
        if not stream.progressive and bits.u(1):
            bits.u(1)
        if idr:
            bits.ue()  # The number of an IDR frame among IDR frames.
        poc_lsb = bits.u(stream.poc_bits) if stream.poc_bits else None
    except ValueError:
        return None
    if slice_type >= _TYPE_COUNT or set_number >= _SET_COUNT:
        return None
    return SliceHeader(
        first_macroblock=first_macroblock,
        slice_type=slice_type % 5,
        idr=idr,
        reference=reference,
        frame_num=frame_num,
        poc_lsb=poc_lsb,
    )


class Numbering:
    """Checks in decoding order that frames are numbered without a jump.

    See clauses 7.4.3 (`frame_num`) and 8.2.1.1 (picture order count).

    Attributes:
        sequence: Number of the current coded video sequence. Order counts are comparable only
            within one.
        order: Order count of the last frame within the sequence; None if it is not known.
        since_break: Number of reference frames since the stream was cut or spliced; more than
            `MAX_REFERENCES` after an IDR frame.
    """

    def __init__(self, settings: StreamSettings):
        """Start before the first frame."""
        self._settings = settings
        self.sequence, self.since_break = 0, 0
        self.order: int | None = None
        # These are the `frame_num` and the order count of the last reference frame.
        self._frame_num: int | None = None
        self._reference_order = 0

    def follow(self, header: SliceHeader, is_key: bool) -> bool:
        """Check the numbers of the next frame, and set the attributes for it.

        A stream that was cut or spliced may restart its numbering at a key frame that is not IDR.

        Args:
            header: The header of the frame's first slice.
            is_key: Whether decoding may begin at the frame.

        Returns:
            Whether `frame_num` continues as it must.
        """
        frame_num_span = 1 << self._settings.frame_num_bits
        is_consecutive = self._frame_num is not None and (
            header.frame_num == (self._frame_num + 1) % frame_num_span
            or self._settings.gaps_allowed
        )
        if header.idr:
            # After IDR no frame can refer back, so there is no break to be lenient about.
            self.sequence += 1
            self.since_break = MAX_REFERENCES + 1
            self._reference_order = 0
            is_consecutive = header.frame_num == 0
        # The stream begins here, or was cut or spliced before this key frame.
        elif self._frame_num is None or (is_key and not is_consecutive):
            self.sequence += 1
            self.since_break = 0
            is_consecutive = True
        self.order = self._order_count(header)
        if header.reference:
            self.since_break += 1
            self._frame_num = header.frame_num
            self._reference_order = self.order or 0
        # A frame that is no reference has the number after the last reference frame's.
        elif self._frame_num is None:
            self._frame_num = header.frame_num - 1
        return is_consecutive

    def _order_count(self, header: SliceHeader) -> int | None:
        """Compute the picture order count of the next frame; None if it is not known."""
        last_order = self._reference_order
        if header.poc_lsb is not None:
            # The order count is the number with these low bits that is nearest to the last one.
            span = 1 << self._settings.poc_bits
            difference = (header.poc_lsb - last_order + span // 2) % span - span // 2
            return last_order + difference
        if self._settings.poc_type == 2 and header.reference:
            # Frames of this type are shown in decoding order, and `frame_num` reveals missing ones.
            # Each frame adds two to the count, one for each of its fields.
            return last_order + 2
        return None
