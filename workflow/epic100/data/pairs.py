"""The pair table: the verb-noun pairs of the training split, which are the pair head's classes."""

import os
from typing import TYPE_CHECKING

from epic100.base.errors import EpicError
from epic100.base.text_table import read_own_table, write_frame

# The rules import `pairs_path`, and Snakemake's environment may be without pandas.
if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("pair_id", "verb", "noun", "count")


def pairs_path(results: str, split: str) -> str:
    """Return the path of the pair table of a training split, `train` or `trainval`."""
    name = "pairs" if split == "train" else f"{split}_pairs"
    return f"{results}/clean/{name}.tsv"


def pair_table(train: "pd.DataFrame") -> "pd.DataFrame":
    """Count the segments of each verb-noun pair in the training segments.

    Returns:
        The columns `pair_id verb noun count`, sorted by verb, then noun. The id is the row number.

    Raises:
        EpicError: No segment has a label.
    """
    # Without a label, verb and noun are -1.
    pairs = train[train["verb"] >= 0].groupby(["verb", "noun"]).size().reset_index(name="count")
    if pairs.empty:
        raise EpicError(
            "no labelled train segment is left after cleaning: nothing to train on; the lines "
            "above count the reasons; check `videos: root:` and `annotations: train:`"
        )
    pairs.insert(0, "pair_id", range(len(pairs)))
    return pairs


def write_pairs(pairs: "pd.DataFrame", path: str | os.PathLike) -> None:
    """Write the pair table atomically, with the columns `pair_id verb noun count` and tabs."""
    write_frame(pairs[list(COLUMNS)], path)


def read_pairs(path: str | os.PathLike) -> list[tuple[int, int, int]]:
    """Read the pair table as a list of (verb, noun, count), whose positions are the pair ids.

    Raises:
        EpicError: The file is no pair table, or has no pairs.
    """
    about = (
        f"the pair table of the rule clean, tab-separated {' '.join(COLUMNS)}; make it again with "
        f"`snakemake -R {path}`"
    )
    rows = read_own_table(path, dict.fromkeys(COLUMNS, int), about=about)
    if not rows:
        raise EpicError(f"{path}: no pairs; expected {about}")
    return [(row["verb"], row["noun"], row["count"]) for row in rows]
