"""H.264 slice headers to their last bit: finds one that no coder writes.

A flipped bit in a slice header may leave all slices decodable, with other references or weights. It
then often changes the length of a field. So the header ends elsewhere, and what follows it is not
the row of ones that fills its last byte (`cabac_alignment_one_bit`, clause 7.3.4). Decoders skip
these bits unread. Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from epic100.scan.h264 import IDR, Bits, StreamSettings, extradata_pps
from epic100.scan.packet_checks import FORBIDDEN, Packet

_P, _B, _I = range(3)  # slice types modulo 5, table 7-6; others are in no MP4 of a camera
_IDR = -1
_STEADY = {_B: 8, _IDR: 1}  # kinds that are compared, with how many before and after
_USUAL_BYTES, _MOST_BYTES = 24, 2048  # of a header: what is read first, and at most
_NO_MORE = 3  # modification_of_pic_nums_idc that ends a list, table 7-7
_ODD_SHARE = 0.1  # of irregular headers, above which the coder writes so
_RARE_SHARE = 0.001  # of slices with an unusual choice, above which the coder chooses so
_MOST_REFERENCES = 32  # of a list, clause 7.4.3


@dataclass(frozen=True)
class PictureSettings:
    """Fields of a picture parameter set that slice headers need.

    Attributes:
        arithmetic: CABAC; else CAVLC, whose slices have no row of ones.
        bottom_order: Frames give the order count of their second field.
        references: Usual numbers of references, of both lists.
        weights: Kinds of slices that hold weights.
        deblocking: Slices say how they are deblocked.
        redundant: Slices say which copy they are.
    """

    arithmetic: bool
    bottom_order: bool
    references: tuple[int, int]
    weights: tuple[int, ...]
    deblocking: bool
    redundant: bool


def parse_pps(pps: bytes) -> tuple[int, PictureSettings]:
    """Read the id and fields of a picture parameter set (clause 7.3.2.2), with its NAL header.

    Raises:
        ValueError: It is broken, or has several slice groups.
    """
    data = pps[1:].replace(b"\0\0\3", b"\0\0")
    bits = Bits(int.from_bytes(data, "big"), 8 * len(data))
    number, _, arithmetic, bottom_order = bits.ue(), bits.ue(), bits.u(1), bits.u(1)
    if bits.ue():
        raise ValueError("several slice groups")
    references = bits.ue() + 1, bits.ue() + 1
    weights = (_P,) * bits.u(1) + (_B,) * (bits.u(2) == 1)
    bits.se(), bits.se(), bits.se()
    deblocking, _, redundant = bits.u(1), bits.u(1), bits.u(1)
    return number, PictureSettings(
        bool(arithmetic), bool(bottom_order), references, weights, bool(deblocking), bool(redundant)
    )


class Habit(NamedTuple):
    """A setting that a coder may choose for each picture, but hardly ever changes.

    Attributes:
        kind: Slices of one kind are compared: P, B or I (table 7-6), or -1 for IDR pictures.
        choice: `direct_spatial_mv_pred_flag`; of an IDR picture whether its reference is long-term.
    """

    kind: int
    choice: bool


def habit_of(
    nal: bytes, stream: StreamSettings, sets: Mapping[int, PictureSettings]
) -> Habit | None:
    """Read the header of a slice.

    Args:
        nal: The NAL unit.
        stream: The sequence parameter set in force.
        sets: The picture parameter sets in force; a slice of another one is not read, since a
            decoder refuses it.

    Returns:
        What may be compared with other slices, or None if no coder writes such a header.
    """
    for size in (_USUAL_BYTES, _MOST_BYTES):
        with contextlib.suppress(ValueError, IndexError):
            if habit := _read(_Codes(nal[1:size]), nal[0], stream, sets):
                return habit
        if size >= len(nal):
            break
    return None


class _Codes:
    """Reads bits from text, which is faster than `Bits` where most fields are skipped.

    Past the end there is an IndexError or a ValueError.
    """

    def __init__(self, escaped: bytes):
        data = escaped.replace(b"\0\0\3", b"\0\0")
        self.text = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
        self.at = 0

    def flag(self) -> bool:
        self.at += 1
        return self.text[self.at - 1] == "1"

    def ue(self) -> int:
        """Read an Exp-Golomb code, clause 9.1."""
        one = self.text.index("1", self.at)
        start, self.at = one, 2 * one - self.at + 1
        return int(self.text[start : self.at], 2) - 1

    def skip(self, count: int) -> None:
        """Skip Exp-Golomb codes."""
        for _ in range(count):
            self.at = 2 * self.text.index("1", self.at) - self.at + 1

    def is_filled(self) -> bool:
        """Whether only ones are left in the last byte that was read from."""
        ones = -self.at % 8
        return self.text[self.at : self.at + ones] == "1" * ones and self.at <= len(self.text)


class SliceHeaders:
    """Checks the slice headers of a stream.

    If many headers break the same rules, the coder is to blame, and no picture is damaged.

    Args:
        extradata: The avcC record of the file.
    """

    def __init__(self, extradata: bytes):
        self._sets: dict[int, PictureSettings] = {}
        self._seen = 0
        self._irregular: list[Packet] = []
        self._habits: dict[int, list[tuple[bool, Packet]]] = {}
        with contextlib.suppress(ValueError, IndexError):  # broken: the decoder reports it
            for pps in extradata_pps(extradata):
                self.take_set(pps)

    def take_set(self, pps: bytes) -> None:
        """Note a picture parameter set; those that are not understood are not checked."""
        with contextlib.suppress(ValueError):
            number, settings = parse_pps(pps)
            self._sets[number] = settings

    def check(self, nal: bytes, stream: StreamSettings, packet: Packet) -> None:
        """Read the header of a slice of a packet."""
        self._seen += 1
        habit = habit_of(nal, stream, self._sets)
        if habit is None:
            self._irregular.append(packet)
        elif habit.kind in _STEADY:
            self._habits.setdefault(habit.kind, []).append((habit.choice, packet))

    def blame(self) -> None:
        """Blame the packets with irregular headers, after all were read."""
        if len(self._irregular) <= _ODD_SHARE * self._seen:
            for packet in self._irregular:
                packet.blame(FORBIDDEN)
        for kind, slices in self._habits.items():
            for i in _lone(np.array([choice for choice, _ in slices]), _STEADY[kind]):
                slices[i][1].blame(FORBIDDEN)


def _lone(choices: np.ndarray, steady: int) -> Iterator[int]:
    """Places of the only choices that differ, amid at least `steady` usual ones on both sides.

    A coder that changes its mind does so at the start, often, or for long.
    """
    usual = np.bincount(choices).argmax()
    others = np.flatnonzero(choices != usual)
    if len(others) <= max(1, _RARE_SHARE * len(choices)):
        for i in others.tolist():
            around = choices[max(i - steady, 0) : i + steady + 1]
            if len(around) == 2 * steady + 1 and (around != usual).sum() == 1:
                yield i


def _read(
    codes: _Codes, first: int, stream: StreamSettings, sets: Mapping[int, PictureSettings]
) -> Habit | None:
    """Read a header (clause 7.3.3) from behind its first byte."""
    codes.skip(1)
    kind, picture = codes.ue() % 5, sets.get(codes.ue())
    if picture is None or kind not in (_P, _B, _I):
        return Habit(_P, False)
    is_idr = first & 31 == IDR
    if is_idr and kind != _I:
        return None
    habit = Habit(kind, False)
    codes.at += 2 * stream.colour_planes + stream.frame_num_bits
    is_frame = stream.progressive or not codes.flag()
    codes.at += not is_frame  # which field
    codes.skip(is_idr)
    has_order = stream.poc_type == 0 or stream.codes_order
    codes.at += stream.poc_bits
    codes.skip(
        stream.codes_order + (picture.bottom_order and is_frame and has_order) + picture.redundant
    )
    if kind == _B:
        habit = Habit(_B, codes.flag())
    if kind != _I and not _read_references(codes, kind, stream, picture):
        return None
    if is_idr:
        codes.at += 1
        habit = Habit(_IDR, codes.flag())
    elif first & 0x60:
        _skip_marking(codes)
    if not picture.arithmetic:
        return habit
    codes.skip(2 if kind != _I else 1)  # cabac_init_idc and the quantiser
    if picture.deblocking and codes.ue() != 1:
        codes.skip(2)
    return habit if codes.is_filled() else None


def _read_references(
    codes: _Codes, kind: int, stream: StreamSettings, picture: PictureSettings
) -> bool:
    """Read the lists of references and their weights (clauses 7.3.3.1 and 7.3.3.2)."""
    counts = picture.references[: 2 if kind == _B else 1]
    if codes.flag():
        counts = tuple(codes.ue() + 1 for _ in counts)
    for count in counts:
        if count > _MOST_REFERENCES:
            return False
        if codes.flag():
            moves = 0
            while codes.ue() != _NO_MORE:
                codes.skip(1)
                moves += 1
            if not 1 <= moves <= count:
                return False  # clause 7.4.3.1
    if kind in picture.weights:
        codes.skip(1 + stream.has_chroma)
        for _ in range(sum(counts)):
            for planes in (1, 2) if stream.has_chroma else (1,):
                if codes.flag():
                    codes.skip(2 * planes)
    return True


def _skip_marking(codes: _Codes) -> None:
    """Read over what happens to kept pictures (clause 7.3.3.3)."""
    if codes.flag():
        while operation := codes.ue():
            codes.skip({5: 0, 3: 2}.get(operation, 1))
