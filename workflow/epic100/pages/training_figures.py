"""The course of a training: losses, accuracies, learning rate and time of each epoch."""

import os
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from epic100.pages.figure_style import (
    BLACK,
    BLUE,
    ORANGE,
    TASK_COLOURS,
    drawing,
    in_words,
    say_nothing_to_show,
    time_unit,
    title_and_legend,
)

# A curve of more epochs has no dots.
MOST_DOTS = 40


def plot_training(history: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw the course of a training: loss, accuracy, learning rate and time of each epoch.

    Args:
        history: From `read_epochs`.
        path: The SVG file to write.
    """
    # What is said above the figure.
    seconds = history["seconds"].sum()
    title, hint = "No epoch was logged", ""
    if len(history):
        epochs = "epoch" if len(history) == 1 else "epochs"
        title = f"{len(history)} {epochs} in {in_words(seconds)}"
        data_share = (history["seconds"] * history["data_share"]).sum() / seconds
        hint = (
            f"{history['samples_per_s'].median():.3g} segments a second; "
            f"{100 * data_share:.0f} % of the time went into waiting for data."
        )
    validated = history[history["action_top1"].notna()]
    if len(validated):
        title += f"; {validated['action_top1'].iloc[-1]:.1f} % top-1 actions at the end"

    # The panels. A single validation makes no curve. Each of the panels takes 2.5 inches.
    has_curve = len(validated) > 1
    panel_count = 4 if has_curve else 3
    with drawing(path, title, hint, height=2.5 * panel_count) as figure:
        if history.empty:
            say_nothing_to_show(figure, "results/training.tsv has no row")
            return
        panels = figure.subplots(panel_count)
        loss, rate, time = panels[:3]
        if has_curve:
            accuracy = panels[3]
            for task, colour in TASK_COLOURS.items():
                _draw_line(accuracy, validated, f"{task}_top1", colour, label=task)
                _draw_line(accuracy, validated, f"{task}_top5", colour, linestyle=":", alpha=0.6)
            accuracy.set(ylim=(0, 103))
            title_and_legend(accuracy, "accuracy on val in %")
        _draw_line(loss, history, "loss", BLACK, label="train")
        if validated["val_loss"].notna().any():
            _draw_line(loss, validated, "val_loss", ORANGE, label="val")
        loss.set(ylim=(0, None))
        title_and_legend(loss, "loss, mean of the epoch")
        _draw_line(rate, history, "lr", BLACK)
        rate.set(title="learning rate", ylim=(0, None))
        _draw_time(time, history)
        for axes in panels:
            axes.grid(axis="both")
            axes.set(xlim=(0.5, len(history) + 0.5), xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def _draw_line(
    axes: Axes, history: pd.DataFrame, column: str, colour: str, **plot_options: Any
) -> None:
    """Draw a column of the history over epochs, with options of `Axes.plot`."""
    marker = "o" if len(history) <= MOST_DOTS else ""
    options: dict[str, Any] = {"marker": marker, "markersize": 4, "color": colour} | plot_options
    axes.plot(history["epoch"], history[column], **options)


def _draw_time(axes: Axes, history: pd.DataFrame) -> None:
    """Draw a bar for each epoch: the time of computing, and on it that of waiting for data."""
    unit, size = time_unit(history["seconds"].median())
    total = history["seconds"] / size
    waiting = total * history["data_share"].fillna(0)
    computing = total - waiting
    axes.bar(history["epoch"], computing, width=0.9, color=BLUE, label="compute")
    axes.bar(
        history["epoch"],
        waiting,
        width=0.9,
        bottom=computing,
        color=ORANGE,
        label="waiting for data",
    )
    title_and_legend(axes, f"{unit} per epoch")
