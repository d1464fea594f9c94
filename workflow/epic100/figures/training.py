"""The course of the training, and what the run cost: time, memory and cores of every job."""

import os
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from epic100.base.durations import in_words, time_unit
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
# A curve of more epochs has no dots.
MOST_DOTS = 40
# The rule of each stage of a run.
RULE_OF_STAGE = {"training": "train", "prediction": "predict"}


def plot_training(history: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw the course of a training: loss, accuracy, learning rate and time of each epoch.

    Args:
        history: From `read_epochs`.
        path: The picture to write.
    """
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
    # A single validation makes no curve. Each of the panels takes 2.5 inches.
    has_curve = len(validated) > 1
    panel_count = 4 if has_curve else 3
    with drawing(path, title, hint, height=2.5 * panel_count) as figure:
        if history.empty:
            say_nothing_to_show(figure, "results/training.tsv has no row")
            return
        loss, rate, time, *accuracy = figure.subplots(panel_count)
        for axes in accuracy:
            for task, colour in TASK_COLOURS.items():
                _draw_line(axes, validated, f"{task}_top1", colour, label=task)
                _draw_line(axes, validated, f"{task}_top5", colour, linestyle=":", alpha=0.6)
            axes.set(ylim=(0, 103))
            title_and_legend(axes, "accuracy on val in %")
        _draw_line(loss, history, "loss", BLACK, label="train")
        if validated["val_loss"].notna().any():
            _draw_line(loss, validated, "val_loss", ORANGE, label="val")
        loss.set(ylim=(0, None))
        title_and_legend(loss, "loss, mean of the epoch")
        _draw_line(rate, history, "lr", BLACK)
        rate.set(title="learning rate", ylim=(0, None))
        _draw_time(time, history)
        for axes in (loss, rate, time, *accuracy):
            _set_axis_of_epochs(axes, len(history))


def plot_runs(histories: Mapping[str, pd.DataFrame], path: str | os.PathLike) -> None:
    """Draw the training loss and the top-1 actions of several runs over epochs.

    Args:
        histories: From `read_epochs`, by the name of the run.
        path: The picture to write.
    """
    hint = (
        "Losses of runs with other heads are sums of other terms. Accuracy is of the epochs that "
        "were validated."
    )
    # After the last colour, the first one is used again with another kind of line.
    curve_styles = [(colour, line) for line in ("-", "--", ":", "-.") for colour in COLOURS]
    # Two panels take 5 inches, and each run takes 0.1 in the legend.
    with drawing(
        path, "Loss and accuracy by epoch", hint, height=5 + 0.1 * len(histories)
    ) as figure:
        loss, accuracy = figure.subplots(2)
        for (name, history), (colour, line) in zip(histories.items(), cycle(curve_styles)):
            validated = history[history["action_top1"].notna()]
            _draw_line(
                loss, history, "loss", colour, linestyle=line, label=short(name, 26), marker=""
            )
            _draw_line(accuracy, validated, "action_top1", colour, linestyle=line)
        loss.set(ylim=(0, None), title="training loss, mean of the epoch")
        accuracy.set(ylim=(0, 103), title="top-1 actions on val in %")
        legend_on_top(figure)
        last_epoch = max(history["epoch"].max() for history in histories.values())
        for axes in (loss, accuracy):
            _set_axis_of_epochs(axes, last_epoch)


def _set_axis_of_epochs(axes: Axes, last_epoch: float) -> None:
    """Set an x axis of epochs, from 1 to the last one."""
    axes.grid(axis="both")
    axes.set(xlim=(0.5, last_epoch + 0.5), xlabel="epoch")
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


def cost_in_words(jobs: pd.DataFrame) -> dict[str, str]:
    """Return how long the stages of a run took, such as `{"training": "3.2 hours"}`.

    A stage without a measured job is left out.

    Args:
        jobs: The result of `job_costs.read_benchmarks`.
    """
    seconds = {
        stage: jobs.loc[jobs["rule"] == rule, "seconds"] for stage, rule in RULE_OF_STAGE.items()
    }
    return {stage: in_words(column.sum()) for stage, column in seconds.items() if len(column)}
