"""What the run cost: time, memory and cores of every job, from Snakemake's benchmark files."""

import os
from pathlib import Path

import pandas as pd

from epic100.base.text_table import read_frame
from epic100.figures.style import (
    BLUE,
    drawing,
    in_words,
    name_rows,
    say_nothing_to_show,
)

TRAININGS = ("train", "probe_train")
COSTS = {"training": TRAININGS, "prediction": ("predict", "probe_predict")}
COLUMNS = {"s": "seconds", "max_rss": "memory_mib", "mean_load": "load_percent"}
TICKS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h",
         360000: "100 h"}  # fmt: skip


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


def cost_in_words(jobs: pd.DataFrame) -> dict[str, str]:
    """Return how long `training` and `prediction` took, without what was not measured.

    Args:
        jobs: See `read_benchmarks`.
    """
    seconds = {what: jobs.loc[jobs["rule"].isin(rules), "seconds"] for what, rules in COSTS.items()}
    return {what: in_words(column.sum()) for what, column in seconds.items() if len(column)}


def plot_rules(jobs: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw wall time, peak memory and busy cores of each job, one row per rule, costliest on top.

    Args:
        jobs: See `read_benchmarks`.
        path: The picture to write.
    """
    totals = jobs.groupby("rule")["seconds"].agg(["sum", "size"])
    totals = totals.sort_values("sum", ascending=False)
    title = f"{in_words(totals['sum'].sum())} of jobs"
    if len(totals):
        title += (
            f", {100 * totals['sum'].iloc[0] / totals['sum'].sum():.0f} % of it {totals.index[0]}"
        )
    hint = "A dot a job. What a rule asks for (threads, memory, runtime) should lie a little above."
    with drawing(path, title, hint, 3 * (0.7 + 0.42 * max(len(totals), 3))) as figure:
        if jobs.empty:
            say_nothing_to_show(figure, "results/benchmarks holds no file")
            return
        rows = [list(totals.index).index(rule) for rule in jobs["rule"]]
        names = [
            f"{rule}\n{size} job{'s' * (size > 1)}, {in_words(seconds)}"
            for rule, seconds, size in totals.itertuples()
        ]
        values = {
            "wall time of a job": jobs["seconds"].clip(lower=0.5),
            "peak memory in GiB": jobs["memory_mib"] / 1024,
            "cores busy on average": jobs["load_percent"] / 100,
        }
        time, *others = figure.subplots(3)
        for axes, (label, column) in zip((time, *others), values.items(), strict=True):
            axes.plot(column, rows, "o", color=BLUE, alpha=0.5, markersize=7, mew=0, clip_on=False)
            axes.set_xlabel(label)
            name_rows(axes, names, 3)
        for axes in others:
            axes.set_xlim(0, None)
        last = max(jobs["seconds"].max() * 3, 10)
        ticks = [tick for tick in TICKS if tick <= last][::2]
        time.set_xscale("log")
        time.set_xticks(ticks, [TICKS[tick] for tick in ticks])
        time.set_xticks([], minor=True)
        time.set_xlim(0.4, last)
