"""Read a clean list for training, prediction or export. An empty list must have a known reason."""

import os
from pathlib import Path

import pandas as pd

from epic100.base.errors import EpicError
from epic100.segments.drop_reasons import read_dropped
from epic100.segments.segment_list import read_segments

DROPPED = "dropped.tsv"  # in the folder of the clean lists
_POOLED = {"trainval": ("train", "val")}  # lists that are joined from others


def read_clean_list(path: str | os.PathLike) -> pd.DataFrame:
    """Read `results/clean/{split}.txt` with `read_segments`.

    A list can be empty for two good reasons: all segments were dropped, for instance because all
    videos are damaged (`dropped.tsv` in the same folder then lists them), or the split has no
    segments. Any other empty list has lost its content, and results made from it would be empty.

    Raises:
        EpicError: As `read_segments`, or the list is empty without a known reason.
    """
    table = read_segments(path)
    if table.empty and not _explained(Path(path)):
        raise EpicError(
            f"{path}: no segment in it, and {Path(path).with_name(DROPPED)} has no dropped segment "
            "of this split either; expected the list as the rule clean wrote it: make it again "
            "with `snakemake -R clean`"
        )
    return table


def _explained(path: Path) -> bool:
    splits = _POOLED.get(path.stem, (path.stem,))
    dropped = path.with_name(DROPPED)
    if dropped.is_file() and any(row["split"] in splits for row in read_dropped(dropped)):
        return True
    listed = [path.parent.parent / "segments" / f"{split}.txt" for split in splits]
    return all(each.is_file() and each.stat().st_size == 0 for each in listed)
