"""The pair table: the verb-noun pairs in the training split. They are the pair head's classes."""

import os
from typing import TYPE_CHECKING

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.text_table import read_table

if TYPE_CHECKING:  # the rules import `pairs_path`, and Snakemake's environment may have no pandas
    import pandas as pd

COLUMNS = ("pair_id", "verb", "noun", "count")


def pairs_path(results: str, split: str) -> str:
    """Return the path, below `results`, of a training split's pair table (train or trainval)."""
    return f"{results}/clean/{'pairs' if split == 'train' else split + '_pairs'}.tsv"


def write_pairs(pairs: "pd.DataFrame", path: str | os.PathLike) -> None:
    """Write `pair_id verb noun count`, tab-separated, atomically."""
    with atomic_path(path) as temporary:
        pairs.to_csv(temporary, sep="\t", index=False, columns=list(COLUMNS))


def read_pairs(path: str | os.PathLike) -> list[tuple[int, int, int]]:
    """Read the table as (verb, noun, count) in order of pair_id.

    Raises:
        EpicError: A field is not a whole number >= 0, the ids are not 0, 1, 2, ..., or a pair is
            listed twice. The error names file, line and column.
    """
    about = f"the pair table of the rule clean, tab-separated {' '.join(COLUMNS)}"
    pairs: list[tuple[int, int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for line, row in read_table(path, COLUMNS, about=about):
        where = f"{path}: line {line}"
        for name in COLUMNS:
            if not (row[name].isascii() and row[name].isdigit()):
                raise EpicError(
                    f"{where}: {name} is {row[name]!r}; expected a whole number from 0 on; make "
                    "the table again with the rule clean"
                )
        pair_id, verb, noun, count = (int(row[name]) for name in COLUMNS)
        if pair_id != len(pairs):
            raise EpicError(
                f"{where}: pair_id is {pair_id}; expected {len(pairs)}, since ids count up from 0"
            )
        if (verb, noun) in seen:
            raise EpicError(
                f"{where}: verb {verb} with noun {noun} is on line {seen[verb, noun]} already; "
                "expected each pair once"
            )
        seen[verb, noun] = line
        pairs.append((verb, noun, count))
    if not pairs:
        raise EpicError(f"{path}: no pairs; expected one line a pair below the header")
    return pairs
