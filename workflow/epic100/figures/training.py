"""The course of the training, and what the run cost: time, memory and cores of every job."""

import os
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from epic100.base.durations import in_words, time_unit
from epic100.base.job_costs import TRAININGS
from epic100.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    TASK_COLOURS,
    VERMILION,
    drawing,
    legend_on_top,
    name_rows,
    say_nothing_to_show,
    short,
    title_and_legend,
)

COLOURS = (BLACK, BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)  # of runs


COSTS = {"training": TRAININGS, "prediction": ("predict", "probe_predict")}
TICKS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h",
         360000: "100 h"}  # fmt: skip


def plot_training(history: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw loss, accuracy on val, learning rate and time by activity, one panel each, over epochs.

    Args:
        history: From `read_epochs`.
        path: The picture to write.
    """
    seconds = history["seconds"].sum()
    title, hint = "No epoch was logged", ""
    if len(history):
        title = f"{len(history)} epoch{'s' * (len(history) != 1)} in {in_words(seconds)}"
        share = (history["seconds"] * history["data_share"]).sum() / seconds
        hint = f"{history['samples_per_s'].median():.3g} segments a second; "
        hint += f"{100 * share:.0f} % of the time went into waiting for data."
    validated = history[history["action_top1"].notna()]
    if len(validated):
        title += f"; {validated['action_top1'].iloc[-1]:.1f} % top-1 actions at the end"
    with drawing(path, title, hint, 10.0) as figure:
        if history.empty:
            say_nothing_to_show(figure, "results/training.tsv has no row")
            return
        accuracy, loss, rate, time = figure.subplots(4)
        for task, colour in TASK_COLOURS.items():
            _line(accuracy, validated, f"{task}_top1", colour, label=task)
            _line(accuracy, validated, f"{task}_top5", colour, linestyle=":", alpha=0.6)
        accuracy.set(ylim=(0, 103))
        title_and_legend(accuracy, "accuracy on val in %")
        _line(loss, history, "loss", BLACK)
        loss.set(ylim=(0, None), title="training loss, mean of the epoch")
        _line(rate, history, "lr", BLACK)
        rate.set(title="learning rate", ylim=(0, None))
        _time(time, history)
        for axes in (loss, accuracy, rate, time):
            _over_epochs(axes, len(history))


def plot_runs(
    histories: Mapping[str, pd.DataFrame], path: str | os.PathLike, seen: str = "val"
) -> None:
    """Draw the training loss and the top-1 actions of several runs over epochs.

    Args:
        histories: From `read_epochs`, by the name of the run.
        path: The picture to write.
        seen: What they were validated on.
    """
    hint = (
        "Losses of runs with other heads are sums of other terms. Accuracy is of the epochs that "
        "were validated."
    )
    looks = [(colour, line) for line in ("-", "--", ":", "-.") for colour in COLOURS]
    with drawing(path, "Loss and accuracy by epoch", hint, 5 + 0.1 * len(histories)) as figure:
        loss, accuracy = figure.subplots(2)
        for (name, history), (colour, line) in zip(histories.items(), cycle(looks)):
            validated = history[history["action_top1"].notna()]
            _line(loss, history, "loss", colour, linestyle=line, label=short(name, 26), marker="")
            _line(accuracy, validated, "action_top1", colour, linestyle=line)
        loss.set(ylim=(0, None), title="training loss, mean of the epoch")
        accuracy.set(ylim=(0, 103), title=f"top-1 actions on {seen} in %")
        legend_on_top(figure)
        last = max(history["epoch"].max() for history in histories.values())
        for axes in (loss, accuracy):
            _over_epochs(axes, last)


def _over_epochs(axes: Axes, last: float) -> None:
    axes.grid(axis="both")
    axes.set(xlim=(0.5, last + 0.5), xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def _line(axes: Axes, history: pd.DataFrame, column: str, colour: str, **look: Any) -> None:
    look = {"marker": "o" if len(history) <= 40 else "", "markersize": 4, "color": colour, **look}
    axes.plot(history["epoch"], history[column], **look)


def _time(axes: Axes, history: pd.DataFrame) -> None:
    unit, size = time_unit(history["seconds"].median())
    total = history["seconds"] / size
    data = total * history["data_share"].fillna(0)
    axes.bar(history["epoch"], total - data, 0.9, color=BLUE, label="compute")
    axes.bar(history["epoch"], data, 0.9, total - data, color=ORANGE, label="waiting for data")
    title_and_legend(axes, f"{unit} per epoch")


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
