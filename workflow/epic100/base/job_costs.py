"""Time, memory and load of every job of a run, from Snakemake's benchmark files."""

import os
from pathlib import Path

import pandas as pd

from epic100.base.text_table import read_frame

# Columns of Snakemake's benchmark files, with the names that they get here.
COLUMNS = {"s": "seconds", "max_rss": "memory_mib", "mean_load": "load_percent"}


def read_benchmarks(folder: str | os.PathLike, epochs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Read the costs of all jobs from the benchmark files below `results/benchmarks`.

    `{rule}.tsv` belongs to a rule with one job, `{rule}/{job}.tsv` to one job of a rule with
    wildcards. A job that was repeated has several rows.

    Args:
        folder: The folder.
        epochs: The table of `read_epochs`; None if there was no training. A training job counts for
            at least the seconds of all epochs, since earlier jobs may have run some of them.

    Returns:
        Columns `rule job seconds memory_mib load_percent`; NaN where Snakemake wrote no number, as
        for very short jobs.
    """
    folder, tables = Path(folder), []
    for path in sorted(folder.rglob("*.tsv")):
        rule, *job_names = path.relative_to(folder).with_suffix("").parts
        table = read_frame(path).rename(columns=COLUMNS)
        table = table[list(COLUMNS.values())].apply(pd.to_numeric, errors="coerce")
        tables.append(table.assign(rule=rule, job="/".join(job_names)))
    columns = ["rule", "job", *COLUMNS.values()]
    jobs = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    if epochs is not None:
        is_training = jobs["rule"] == "train"
        # `clip` raises smaller values to the sum of all epochs.
        jobs["seconds"] = jobs["seconds"].mask(
            is_training, jobs["seconds"].clip(epochs["seconds"].sum())
        )
    return jobs[columns]
