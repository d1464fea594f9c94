"""`features/{participant}.tsv`: the videos that have features, and why others have none."""

import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from epic100.base.text_table import read_own_table, write_table


@dataclass(frozen=True)
class FeatureRow:
    """A video of the table.

    Attributes:
        video_id: The video.
        steps: Rows of its features; 0: it has none.
        valid: Rows that touch no damage.
        channels: Values of a row.
        reason: Why it has none.
    """

    video_id: str
    steps: int = 0
    valid: int = 0
    channels: int = 0
    reason: str = ""


COLUMNS = tuple(field.name for field in fields(FeatureRow))


def write_feature_table(rows: Iterable[FeatureRow], path: str | os.PathLike) -> None:
    """Write the table atomically, tab-separated with a header."""
    cells = ([" ".join(str(value).split()) for value in astuple(row)] for row in rows)
    write_table(path, COLUMNS, cells)


def read_feature_table(path: str | os.PathLike) -> list[FeatureRow]:
    """Read a table of `write_feature_table`.

    Raises:
        EpicError: It is not such a table. The message names file and line.
    """
    about = (
        f"the table of the rule features, tab-separated {' '.join(COLUMNS)}; make it again with "
        f"`snakemake --force {path}`"
    )
    kinds = dict.fromkeys(COLUMNS, str) | dict.fromkeys(("steps", "valid", "channels"), int)
    return [FeatureRow(**row) for row in read_own_table(path, kinds, about=about)]
