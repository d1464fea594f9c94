"""`training.tsv`, the metrics of each epoch of a training: its columns, writer and reader.

It imports neither MMEngine nor torch, so the plots can read the file without them.
"""

import os
from collections.abc import Mapping, Sequence

import pandas as pd

from epic100.base.text_table import read_own_table, write_frame

FILE = "training.tsv"
ACCURACIES = ("verb_top1", "verb_top5", "noun_top1", "noun_top5", "action_top1", "action_top5")
VAL_LOSS = "val_loss"
# The columns that a validation fills, each with its metric in MMEngine: EpicPairMetric's.
PREFIX = "epic"
METRIC_OF_COLUMN = {VAL_LOSS: f"{PREFIX}/loss"} | {
    column: f"{PREFIX}/overall_{column.replace('_top', '_accuracy_at_')}" for column in ACCURACIES
}
COLUMNS = (
    "epoch",
    "iter",
    "lr",
    "loss",
    VAL_LOSS,
    *ACCURACIES,
    "samples_per_s",
    "data_share",
    "seconds",
)
# An empty field is read as NaN.
_READERS = dict.fromkeys(COLUMNS, lambda text: float(text or "nan"))

# The values of an epoch by column; None is written as an empty field.
Row = Mapping[str, float | None]


def write_epochs(rows: Sequence[Row], path: str | os.PathLike) -> None:
    """Write the table of epochs of a training: a header, then one row per epoch.

    Args:
        rows: Values by column. `epoch` and `iter` count from 1; `lr` is the rate of the epoch's
            last batch; `loss` is the mean over its batches; `val_loss` and accuracies, which are in
            percent, are None if the epoch was not validated. `seconds` is training time alone,
            without saves and validation; `data_share` is the share of it (0 to 1) spent waiting for
            data.
        path: The file; it is replaced atomically.

    Raises:
        DiskError: The file cannot be written.
    """
    write_frame(pd.DataFrame(rows, columns=list(COLUMNS)), path, float_format="%.6g")


def read_epochs(path: str | os.PathLike) -> pd.DataFrame:
    """Read `training.tsv` as floats, one row per epoch; an empty field is NaN.

    Raises:
        EpicError: The file is not such a table, or a field is not a number. The error names file,
            line and column.
    """
    expected = f"the training history of the rule train, tab-separated {' '.join(COLUMNS)}"
    # Tables from before 0.2.0 have no `val_loss`.
    return pd.DataFrame(
        read_own_table(path, _READERS, about=expected, optional=[VAL_LOSS]),
        columns=list(COLUMNS),
        dtype=float,
    )
