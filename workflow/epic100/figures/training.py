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
    say_nothing_to_show,
    short,
    title_and_legend,
)

# Runs have these colours in turn.
COLOURS = (BLACK, BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)


COSTS = {"training": TRAININGS, "prediction": ("predict", "probe_predict")}


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
    # A single validation makes no curve.
    curves = len(validated) > 1
    with drawing(path, title, hint, 7.5 + 2.5 * curves) as figure:
        if history.empty:
            say_nothing_to_show(figure, "results/training.tsv has no row")
            return
        loss, rate, time, *accuracy = figure.subplots(3 + curves)
        for axes in accuracy:
            for task, colour in TASK_COLOURS.items():
                _line(axes, validated, f"{task}_top1", colour, label=task)
                _line(axes, validated, f"{task}_top5", colour, linestyle=":", alpha=0.6)
            axes.set(ylim=(0, 103))
            title_and_legend(axes, "accuracy on val in %")
        _line(loss, history, "loss", BLACK, label="train")
        if curves:
            _line(loss, validated, "val_loss", ORANGE, label="val")
        loss.set(ylim=(0, None))
        title_and_legend(loss, "loss, mean of the epoch")
        _line(rate, history, "lr", BLACK)
        rate.set(title="learning rate", ylim=(0, None))
        _time(time, history)
        for axes in (loss, rate, time, *accuracy):
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
    seconds = {
        stage: jobs.loc[jobs["rule"].isin(rules), "seconds"] for stage, rules in COSTS.items()
    }
    return {stage: in_words(column.sum()) for stage, column in seconds.items() if len(column)}
