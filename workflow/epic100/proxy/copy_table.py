"""The table of a participant's copies, a row a video."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from epic100.base.text_table import write_table


class State(StrEnum):
    """What exists for a video: a copy, the `original` (a link), or `none` (not readable)."""

    COPIED = "copied"
    ORIGINAL = "original"
    NONE = "none"


@dataclass(frozen=True)
class ProxyRow:
    """The copy of one video, or what takes its place; sizes in bytes.

    Attributes:
        stand_ins: Number of frames that are grey because the original gives no picture.
        psnr: Of the copy's luma, in dB, compared with the original scaled to the same size.
    """

    video_id: str
    state: State
    width: int = 0
    height: int = 0
    frames: int = 0
    stand_ins: int = 0
    psnr: float = 0.0
    bytes: int = 0
    original_bytes: int = 0
    reason: str = ""


COLUMNS = tuple(f.name for f in fields(ProxyRow))


def write_proxy_table(rows: Sequence[ProxyRow], path: str | os.PathLike) -> None:
    """Write one row per video, tab-separated."""
    cells = (
        [f"{v:.2f}" if isinstance(v, float) else v for v in vars(row).values()] for row in rows
    )
    write_table(path, COLUMNS, cells)
