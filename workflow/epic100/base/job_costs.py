"""Time, memory and cores of every job of a run, from Snakemake's benchmark files."""

import os
from pathlib import Path

import pandas as pd

from epic100.base.text_table import read_frame

TRAININGS = ("train", "probe_train")
COLUMNS = {"s": "seconds", "max_rss": "memory_mib", "mean_load": "load_percent"}


def read_benchmarks(folder: str | os.PathLike) -> pd.DataFrame:
    """Read all jobs below `results/benchmarks`.

    `{rule}.tsv` belongs to a rule with one job, `{rule}/{job}.tsv` to one job of a rule with
    wildcards. A job that was repeated has several rows.

    Returns:
        Columns `rule job seconds memory_mib load_percent`; NaN where Snakemake wrote no number, as
        for very short jobs.
    """
    folder, tables = Path(folder), []
    for path in sorted(folder.rglob("*.tsv")):
        parts = path.relative_to(folder).with_suffix("").parts
        table = read_frame(path).rename(columns=COLUMNS)
        table = table[list(COLUMNS.values())].apply(pd.to_numeric, errors="coerce")
        tables.append(table.assign(rule=parts[0], job="/".join(parts[1:])))
    columns = ["rule", "job", *COLUMNS.values()]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)


def count_all_epochs(jobs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Let the job of a training last as long as all its epochs, which earlier jobs may have run.

    Args:
        jobs: See `read_benchmarks`.
        history: From `read_epochs`.
    """
    trains = jobs["rule"].isin(TRAININGS)
    whole = jobs["seconds"].clip(lower=history["seconds"].sum())
    return jobs.assign(seconds=jobs["seconds"].where(~trains, whole))
