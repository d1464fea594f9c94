"""Read the parameter sets of H.264 to their last bit, and declare a picture taller than it is.

A decoder reports a corrupted slice only if its syntax breaks. Most flipped bits do not break it:
the arithmetic decoder reads on, decodes garbage, and stops when the picture is full. So the picture
is declared taller than it is (`taller`), and the decoder must ignore errors in the rows below. A
correct slice ends with its own end mark at the true last macroblock. Garbage runs on into the rows
below until it hits an error or stops at the wrong place. Both are flagged, at no cost.

A decoder stops reading a set when it has what it needs. A flipped bit that changes the length of a
field shifts all that follows, up to the end, so a corrupted set rarely ends where it must: with a
stop bit and zeros (clause 7.3.2.11). Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

from dataclasses import dataclass, field

from epic100.video.nal import SPS, Bits, code, escaped

P, B, INTRA = range(3)  # slice types modulo 5, table 7-6
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Level 6.2, so that the taller picture does not reduce the reorder depth (table A-1).
_TOP_LEVEL = 62
_LEVEL_AT = 24  # bits before the level
_EXTENDED_SAR = 255  # table E-1
_MOST_CHROMA_OFFSET = 12  # clause 7.4.2.2
_GBR = 0  # matrix_coefficients of pictures that are not converted; only with chroma format 3
_NO_MATRICES = {3, *range(18, 256)}  # reserved: matrix_coefficients, table E-5 and H.273


@dataclass(frozen=True)
class StreamSettings:
    """Fields of a sequence parameter set; sizes in macroblocks (16 px).

    Attributes:
        chroma: Chroma format; 1 is 4:2:0, 3 is 4:4:4.
        codes_order: With poc_type 1: slices give differences of order counts.
        height_at: Bits [start, stop) of the height.
        fixed_fps: Frames per second if the encoder states that all have the same length, else 0.
        is_whole: Whether the set ends where it must, without reserved values.
    """

    width: int
    height: int
    frame_num_bits: int
    poc_type: int
    poc_bits: int
    gaps_allowed: bool
    progressive: bool
    chroma: int
    colour_planes: bool
    codes_order: bool
    height_at: tuple[int, int]
    fixed_fps: float = field(default=0.0, compare=False)
    is_whole: bool = field(default=True, compare=False)

    @property
    def has_chroma(self) -> bool:
        """Whether slices hold three colours."""
        return self.chroma > 0 and not self.colour_planes


def parse_sps(sps: bytes) -> StreamSettings:
    """Read a sequence parameter set (clause 7.3.2.1.1), including its NAL header.

    Raises:
        ValueError: It is not a sequence parameter set, or is broken before its notes.
    """
    bits = Bits(sps)
    if bits.u(8) & 31 != SPS:
        raise ValueError("not a sequence parameter set")
    profile = bits.u(8)
    bits.at = _LEVEL_AT + 8
    bits.ue()
    planes, chroma, codes_order, poc_bits = False, 1, False, 0
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        planes = chroma == 3 and bool(bits.u(1))
        bits.skip(2)
        if bits.u(2) & 1:
            _skip_matrices(bits, 12 if chroma == 3 else 8)
    frame_num_bits, poc_type = bits.ue() + 4, bits.ue()
    if poc_type == 0:
        poc_bits = bits.ue() + 4
    elif poc_type == 1:
        codes_order = not bits.u(1)
        bits.skip(2)
        bits.skip(bits.ue())
    bits.ue()
    gaps, width, start = bool(bits.u(1)), bits.ue() + 1, bits.at
    height, stop = bits.ue() + 1, bits.at
    progressive = bool(bits.u(1))
    if poc_type > 2 or frame_num_bits > 16 or poc_bits > 16:
        raise ValueError("broken sequence parameter set")
    try:
        fps = _notes(bits, chroma, progressive)
        is_whole = bits.is_at_end()
    except ValueError:
        fps, is_whole = 0.0, False
    return StreamSettings(width, height, frame_num_bits, poc_type, poc_bits, gaps, progressive,
                          chroma, planes, codes_order, (start, stop), fps, is_whole)  # fmt: skip


def taller(sps: bytes, rows: int) -> bytes:
    """The same parameter set for a picture with `rows` more rows of macroblocks at the bottom.

    Raises:
        ValueError: As of `parse_sps`.
    """
    settings, bits = parse_sps(sps), Bits(sps).text
    start, stop = settings.height_at
    # The height minus one; in pairs of rows if a frame has two fields.
    height = settings.height - 1 + (rows if settings.progressive else rows // 2)
    level = f"{_TOP_LEVEL:08b}"
    head = bits[:_LEVEL_AT] + level + bits[_LEVEL_AT + 8 : start]
    return escaped(head + code(height) + bits[stop:].rstrip("0"))


@dataclass(frozen=True)
class PictureSettings:
    """Fields of a picture parameter set.

    Attributes:
        arithmetic: CABAC; else CAVLC, whose slices have no row of ones.
        bottom_order: Frames give the order count of their second field.
        references: Usual numbers of references, of both lists.
        weights: Kinds of slices that hold weights.
        deblocking: Slices say how they are deblocked.
        redundant: Slices say which copy they are.
        is_whole: Whether the set ends where it must, without reserved values.
    """

    arithmetic: bool
    bottom_order: bool
    references: tuple[int, int]
    weights: tuple[int, ...]
    deblocking: bool
    redundant: bool
    is_whole: bool = True


def parse_pps(pps: bytes, chroma: int = 1) -> tuple[int, PictureSettings]:
    """Read the id and fields of a picture parameter set (clause 7.3.2.2), with its NAL header.

    Args:
        pps: The set.
        chroma: Chroma format of the sequence parameter set, to find the end.

    Raises:
        ValueError: It is broken, or has several slice groups, which no decoder of FFmpeg reads.
    """
    bits = Bits(pps, at=8)
    number, _, arithmetic, bottom_order = bits.ue(), bits.ue(), bits.u(1), bits.u(1)
    if bits.ue():
        raise ValueError("several slice groups")
    references, weighted, of_b = (bits.ue() + 1, bits.ue() + 1), bits.u(1), bits.u(2)
    bits.skip(2)
    offset = bits.se()
    deblocking, _, redundant = bits.u(1), bits.u(1), bits.u(1)
    possible = of_b < 3 and abs(offset) <= _MOST_CHROMA_OFFSET
    return number, PictureSettings(
        bool(arithmetic),
        bool(bottom_order),
        references,
        (P,) * weighted + (B,) * (of_b == 1),
        bool(deblocking),
        bool(redundant),
        possible and _ends(bits, chroma),
    )


def _ends(bits: Bits, chroma: int) -> bool:
    """Whether a picture parameter set ends here, or after the fields that may follow."""
    if bits.is_at_end():
        return True
    try:
        eight = bits.u(1)  # transform_8x8_mode_flag
        if bits.u(1):
            _skip_matrices(bits, 6 + (6 if chroma == 3 else 2) * eight)
        bits.se()
    except ValueError:
        return False
    return bits.is_at_end()


def _notes(bits: Bits, chroma: int, progressive: bool) -> float:
    """Read cropping and the encoder's notes (VUI, clause E.1.1); returns the fixed frame rate."""
    bits.u(1 if progressive else 2)
    bits.skip(4 * bits.u(1))
    if not bits.u(1):
        return 0.0
    if bits.u(1) and bits.u(8) == _EXTENDED_SAR:
        bits.u(32)
    if bits.u(1):
        bits.u(1)
    if bits.u(1):
        bits.u(4)
        if bits.u(1):
            matrix = bits.u(24) & 255
            if matrix in _NO_MATRICES or (matrix == _GBR and chroma != 3):
                raise ValueError("an impossible matrix of colours")
    bits.skip(2 * bits.u(1))
    fps = 0.0
    if bits.u(1):
        units, scale, fixed = bits.u(32), bits.u(32), bits.u(1)
        # The rate counts both fields of a frame (clause E.2.1).
        fps = scale / units / 2 if units and fixed else 0.0
    hrd = [bits.u(1) and _skip_hrd(bits) for _ in range(2)]
    bits.u(2 if any(hrd) else 1)
    if bits.u(1):
        bits.u(1)
        bits.skip(6)
    return fps


def _skip_hrd(bits: Bits) -> bool:
    """Read over the parameters of a reference decoder (clause E.1.2)."""
    count = bits.ue() + 1
    bits.u(8)
    for _ in range(count):
        bits.skip(2)
        bits.u(1)
    bits.u(20)
    return True


def _skip_matrices(bits: Bits, count: int) -> None:
    """Read over scaling lists (clause 7.3.2.1.1.1)."""
    for number in range(count):
        if bits.u(1):
            last = following = 8
            for _ in range(16 if number < 6 else 64):
                if following:
                    following = (last + bits.se()) % 256
                last = following or last
