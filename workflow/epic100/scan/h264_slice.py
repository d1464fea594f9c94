"""H.264 slice headers, each read once and to its end: its numbers, and what no coder writes.

A flipped bit in a slice header may leave all slices decodable, with other references or weights. It
then often changes the length of a field. So the header ends elsewhere, and what follows it is not
the row of ones that fills its last byte (`cabac_alignment_one_bit`, clause 7.3.4). Decoders skip
these bits unread. The numbers of pictures reveal lost and misplaced ones. Clause numbers refer to
Rec. ITU-T H.264 (08/2021).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from epic100.scan.damage import FORBIDDEN, Packet
from epic100.scan.h264 import INTRA, B, PictureSettings, StreamSettings
from epic100.video.nal import IDR, Bits

_SI = 4  # slice type modulo 5, table 7-6
_TYPES, _SETS = 10, 256  # numbers of slice types and of picture parameter sets
_USUAL_BYTES, _MOST_BYTES = 24, 2048  # of a header: what is read first, and at most
_NO_MORE = 3  # modification_of_pic_nums_idc that ends a list, table 7-7
_CODES = {5: 0, 3: 2}  # that follow a memory_management_control_operation, others have 1; 7.3.3.3
_ODD_SHARE = 0.1  # of irregular headers, above which the coder writes so
_RARE_SHARE = 0.001  # of slices with an unusual choice, above which the coder chooses so
_MOST_REFERENCES = 32  # of a list, clause 7.4.3
_STEADY = {False: 8, True: 1}  # how many slices before and after are compared; of IDR pictures
MAX_REFERENCES = 16  # most pictures that a decoder keeps, clause A.3.1


class SliceHeader(NamedTuple):
    """What a slice says of itself and of its picture.

    Attributes:
        first: Its first macroblock; 0 if it begins a picture.
        kind: Slice type modulo 5.
        poc_lsb: Low bits of the picture order count; None if the stream does not code it.
        choice: What a coder may choose for each picture, but hardly ever changes: of B slices
            `direct_spatial_mv_pred_flag`, of an IDR picture whether its reference is long-term.
        is_regular: False if no coder writes such a header.
        size: Bytes of the NAL unit that hold it, if they can be told; else 0. Another slice that
            begins with the same bytes has the same header.
    """

    first: int
    kind: int
    idr: bool
    reference: bool
    frame_num: int
    poc_lsb: int | None
    choice: bool | None = None
    is_regular: bool = True
    size: int = 0

    @property
    def intra(self) -> bool:
        """Whether it refers to no other picture."""
        return self.kind in (INTRA, _SI)


def slice_header(
    nal: bytes, stream: StreamSettings, sets: Mapping[int, PictureSettings]
) -> SliceHeader | None:
    """Read a header (clause 7.3.3).

    Args:
        nal: The NAL unit.
        stream: The sequence parameter set in force.
        sets: The picture parameter sets in force. A header of another one is read up to its
            numbers and is regular, since a decoder refuses it.

    Returns:
        The header, or None if no slice begins like this.
    """
    header = _read(nal[:_USUAL_BYTES], stream, sets)
    if header is not None and not header.is_regular:
        header = _read(nal[:_MOST_BYTES], stream, sets)
    return header


def _read(
    nal: bytes, stream: StreamSettings, sets: Mapping[int, PictureSettings]
) -> SliceHeader | None:
    """Read a header from the first bytes of a NAL unit; it is irregular if it goes beyond them."""
    bits, idr, reference = Bits(nal[1:]), nal[0] & 31 == IDR, bool(nal[0] & 0x60)
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
    kind, picture, choice, is_regular, size = kind % 5, sets.get(number), None, True, 0
    if picture is not None and kind <= INTRA:  # no camera writes others
        try:
            choice = _choice(bits, kind, idr, reference, is_frame, stream, picture)
            if 8 + len(bits.text) == 8 * len(nal):  # no byte was taken out
                size = 1 + -(-bits.at // 8)
        except ValueError:
            is_regular = False
    return SliceHeader(first, kind, idr, reference, frame_num, poc_lsb, choice, is_regular, size)


def _choice(
    bits: Bits,
    kind: int,
    idr: bool,
    reference: bool,
    is_frame: bool,
    stream: StreamSettings,
    picture: PictureSettings,
) -> bool | None:
    """Read the rest of a header. Returns the choice; ValueError if no coder writes this."""
    choice = None
    if idr and kind != INTRA:
        raise ValueError("a key frame that refers to others")
    has_order = stream.poc_type == 0 or stream.codes_order
    bits.skip(stream.codes_order + (picture.bottom_order and is_frame and has_order))
    bits.skip(picture.redundant)
    if kind == B:
        choice = bits.flag()
    if kind != INTRA:
        _read_references(bits, kind, stream, picture)
    if idr:
        choice = bool(bits.u(2) & 1)
    elif reference and bits.flag():
        while operation := bits.ue():
            bits.skip(_CODES.get(operation, 1))
    if picture.arithmetic:
        bits.skip(1 + (kind != INTRA))  # cabac_init_idc and the quantiser
        if picture.deblocking and bits.ue() != 1:
            bits.skip(2)
        if "0" in bits.text[bits.at : -(-bits.at // 8) * 8]:
            raise ValueError("no ones before the slice")
    return choice


def _read_references(
    bits: Bits, kind: int, stream: StreamSettings, picture: PictureSettings
) -> None:
    """Read the lists of references and their weights (clauses 7.3.3.1 and 7.3.3.2)."""
    counts = picture.references[: 2 if kind == B else 1]
    if bits.flag():
        counts = tuple(bits.ue() + 1 for _ in counts)
    for count in counts:
        moves = 0
        if moved := bits.flag():
            while bits.ue() != _NO_MORE:
                bits.ue()
                moves += 1
        if count > _MOST_REFERENCES or not moved <= moves <= count:  # clause 7.4.3.1
            raise ValueError("too many references, or a list that moves nothing")
    if kind in picture.weights:
        bits.skip(1 + stream.has_chroma)
        for _ in range(sum(counts)):
            for planes in (1, 2) if stream.has_chroma else (1,):
                if bits.flag():
                    bits.skip(2 * planes)


class SliceHeaders:
    """Judges the slice headers of a stream together.

    If many headers break the same rules, the coder is to blame, and no picture is damaged.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._irregular: list[Packet] = []
        self._choices: dict[bool, list[tuple[bool, Packet]]] = {False: [], True: []}

    def add(self, header: SliceHeader | None, packet: Packet) -> None:
        """Note the header of a slice of a packet; None: it cannot be read."""
        self._seen += 1
        if header is None or not header.is_regular:
            self._irregular.append(packet)
        elif header.choice is not None:
            self._choices[header.idr].append((header.choice, packet))

    def blame(self) -> None:
        """Blame the packets with irregular headers, after all were read."""
        if len(self._irregular) <= _ODD_SHARE * self._seen:
            for packet in self._irregular:
                packet.blame(FORBIDDEN)
        for idr, slices in self._choices.items():
            for i in _lone(np.array([choice for choice, _ in slices], dtype=bool), _STEADY[idr]):
                slices[i][1].blame(FORBIDDEN)


def _lone(choices: np.ndarray, steady: int) -> Iterator[int]:
    """Places of the only choices that differ, amid at least `steady` usual ones on both sides.

    A coder that changes its mind does so at the start, often, or for long.
    """
    odd = choices != (2 * choices.sum() > len(choices))
    if odd.sum() <= max(1, _RARE_SHARE * len(odd)):
        for i in np.flatnonzero(odd).tolist():
            around = odd[max(i - steady, 0) : i + steady + 1]
            if len(around) == 2 * steady + 1 and around.sum() == 1:
                yield i


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
