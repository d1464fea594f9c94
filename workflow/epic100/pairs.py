"""The pair table: the verb-noun pairs seen in training, which are the classes of the one head."""

import csv
import os
from pathlib import Path

import pandas as pd

from epic100.atomic import atomic_path
from epic100.errors import EpicError

COLUMNS = ("pair_id", "verb", "noun", "count")


def write_pairs(pairs: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write `pair_id verb noun count`, tab-separated, whole or not at all."""
    with atomic_path(path) as temporary:
        pairs.to_csv(temporary, sep="\t", index=False, columns=list(COLUMNS))


def read_pairs(path: str | os.PathLike) -> list[tuple[int, int, int]]:
    """Read the table as (verb, noun, count) in order of pair_id.

    Raises EpicError naming file and line where ids do not count up from 0 or a pair stands twice.
    """
    path = Path(path)
    if not path.is_file():
        raise EpicError(f"{path}: no such pair table; the rule clean writes it")
    pairs: list[tuple[int, int, int]] = []
    with path.open(encoding="utf-8", newline="") as handle:
        for number, row in enumerate(csv.DictReader(handle, delimiter="\t")):
            try:
                pair_id, verb, noun, count = (int(row[name]) for name in COLUMNS)
            except (KeyError, TypeError, ValueError) as error:
                raise EpicError(
                    f"{path}: line {number + 2}: expected whole numbers {' '.join(COLUMNS)}, "
                    "tab-separated; make it again with the rule clean"
                ) from error
            if pair_id != number:
                raise EpicError(f"{path}: line {number + 2}: pair_id {pair_id}, expected {number}")
            pairs.append((verb, noun, count))
    if not pairs:
        raise EpicError(f"{path}: no pairs; expected one line a pair below the header")
    if len({pair[:2] for pair in pairs}) < len(pairs):
        raise EpicError(f"{path}: a verb-noun pair stands there twice")
    return pairs
