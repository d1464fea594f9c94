"""What the run cost, drawn and in words: time, memory and cores of every job."""

import os

import pandas as pd

from epic100.base.job_costs import TRAININGS
from epic100.figures.style import (
    BLUE,
    drawing,
    in_words,
    name_rows,
    say_nothing_to_show,
)

COSTS = {"training": TRAININGS, "prediction": ("predict", "probe_predict")}
TICKS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h",
         360000: "100 h"}  # fmt: skip


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
