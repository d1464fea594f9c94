"""The course of the training: loss, accuracy, learning rate, and where the time went."""

import os
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from epic100.figures.style import (
    BLACK,
    BLUE,
    ORANGE,
    TASK_COLOURS,
    drawing,
    in_words,
    say_nothing_to_show,
    time_unit,
)


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
    if history["action_top1"].notna().any():
        title += f"; {history['action_top1'].dropna().iloc[-1]:.1f} % top-1 actions at the end"
    with drawing(path, title, hint, 6.8) as figure:
        if history.empty:
            say_nothing_to_show(figure, "results/training.tsv has no row")
            return
        loss, accuracy, rate, time = figure.subplots(2, 2, sharex=True).flat
        _line(loss, history, "loss", BLACK)
        loss.set(title="training loss", ylim=(0, None))
        for task, colour in TASK_COLOURS.items():
            _line(accuracy, history, f"{task}_top1", colour, label=f"{task} top-1")
            _line(accuracy, history, f"{task}_top5", colour, label="top-5", linestyle=":")
        accuracy.set(title="accuracy on val in %", ylim=(0, 103))
        accuracy.legend(ncols=3, loc="lower right", fontsize=8)
        _line(rate, history, "lr", BLACK)
        rate.set(title="learning rate", ylim=(0, None), xlabel="epoch")
        _time(time, history)
        for axes in (loss, accuracy, rate, time):
            axes.grid(axis="both")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _line(axes: Axes, history: pd.DataFrame, column: str, colour: str, **look: Any) -> None:
    known = history[history[column].notna()]
    look = {"marker": "o" if len(known) <= 40 else "", "markersize": 3, "color": colour, **look}
    axes.plot(known["epoch"], known[column], **look)


def _time(axes: Axes, history: pd.DataFrame) -> None:
    unit, size = time_unit(history["seconds"].median())
    total = history["seconds"] / size
    data = total * history["data_share"].fillna(0)
    axes.bar(history["epoch"], total - data, 0.9, color=BLUE, label="compute")
    axes.bar(history["epoch"], data, 0.9, total - data, color=ORANGE, label="waiting for data")
    axes.set(title=f"{unit} an epoch", xlabel="epoch")
    axes.legend(loc="lower right", ncols=2, framealpha=0.9, frameon=True, edgecolor="white")
