"""How good the model is: the official metrics, accuracy per class, and which verbs it confuses."""

import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from epic100.figures.outcomes import confusion
from epic100.figures.style import (
    BLACK,
    PALE,
    TASK_COLOURS,
    drawing,
    legend_on_top,
    name_rows,
    say_nothing_to_show,
    short,
)
from epic100.segments.class_names import TASKS, ClassNames

TOP = 24  # classes with a bar each, at most
SQUARE = 14  # verbs in the confusion table, at most


def plot_official(
    figures: Mapping,
    outcome: pd.DataFrame,
    unseen: Collection[str],
    path: str | os.PathLike,
) -> None:
    """Draw the metrics of `results/metrics.json` and accuracy on seen participants as bars.

    Args:
        figures: The content of metrics.json.
        outcome: See `outcomes`.
        unseen: Participants without a video in train.
        path: The picture to write.
    """
    seen = outcome[~outcome["participant"].isin(unseen)]
    strange = len(outcome) - len(seen)
    hits = {task: _percent(seen[f"{task}_at_1"]) if strange else None for task in TASK_COLOURS}
    rows = {
        f"all {len(outcome):,} segments, top-1": _official(figures, "overall", 1),
        f"the {figures['predicted']:,} with readable video, top-1": _official(
            figures, "readable", 1
        ),
        f"seen participants ({len(seen):,}), top-1": hits,
        f"unseen participants ({strange:,}), top-1": _official(figures, "unseen", 1),
        "tail classes, top-1": _official(figures, "tail", 1),
        f"all {len(outcome):,} segments, top-5": _official(figures, "overall", 5),
    }
    best = figures["overall_action_accuracy_at_1"]
    title = f"{best:.1f} % of the validation actions are right"
    hint = f"An action is right where verb and noun are. Pair scores folded by {figures['reduce']}."
    with drawing(path, title, hint, 6.0) as figure:
        axes = figure.subplots()
        for offset, (task, colour) in zip((-0.27, 0, 0.27), TASK_COLOURS.items(), strict=True):
            for y, values in enumerate(rows.values()):
                value = values[task]
                axes.barh(y + offset, value or 0, 0.24, color=colour,
                          label=None if y else task)  # fmt: skip
                said = "no list, or no such segment" if value is None else f"{value:.2f}"
                axes.text((value or 0) + 0.6, y + offset, said, va="center", fontsize=8)
        name_rows(axes, list(rows))
        axes.set(xlim=(0, 108), xlabel="accuracy in %")
        legend_on_top(figure)


def plot_per_class(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw top-1 (bar) and top-5 (line) of the most frequent verbs and nouns of val.

    Args:
        table: See `by_class`.
        path: The picture to write.
    """
    frequent = {task: table[(table["task"] == task) & (table["val_segments"] > 0)]
                for task in TASKS}  # fmt: skip
    never = sum(int((part["top1"] == 0).sum()) for part in frequent.values())
    title = f"{never} of {sum(map(len, frequent.values()))} classes in val are never got right"
    title = title if never else "Every class in val is got right at least once"
    hint = "Most frequent in val on top (segments in brackets). Bar: top-1. Line's end: top-5."
    slots = min(max(map(len, frequent.values())), TOP + 1)
    with drawing(path, title, hint, 1.8 + 0.2 * max(slots, 5)) as figure:
        for axes, task in zip(figure.subplots(1, 2), TASKS, strict=True):
            part = frequent[task]
            top, others = part[:TOP], part[TOP:]
            rows = [
                (f"{short(str(row.name_))} ({row.val_segments:,})", row.top1, row.top5)
                for row in top.rename(columns={"name": "name_"}).itertuples()
            ]
            if len(others):
                weights = others["val_segments"]
                means = [np.average(others[name], weights=weights) for name in ("top1", "top5")]
                rows.append((f"{len(others)} other {task}s ({weights.sum():,})", *means))
            for y, (_, top1, top5) in enumerate(rows):
                colour = PALE if y == TOP else TASK_COLOURS[task]
                axes.barh(y, top1, 0.72, color=colour)
                axes.plot([top1, top5], [y, y], color=BLACK, linewidth=0.8)
                axes.plot(top5, y, "|", color=BLACK, markersize=6)
            name_rows(axes, [name for name, *_ in rows])
            axes.set(xlim=(0, 102), xlabel="% of the class's readable segments", title=f"{task}s")


def plot_confusion(outcome: pd.DataFrame, names: ClassNames, path: str | os.PathLike) -> None:
    """Draw the confusion of the frequent verbs: true by guessed, in percent of the true class."""
    counts = confusion(outcome, "verb", SQUARE)
    title, hint = "No readable segment", ""
    if len(counts):
        percent = 100 * counts.div(counts.sum(axis=1), axis=0)
        errors = counts.mask(np.eye(*counts.shape, dtype=bool), 0).drop(columns=-1)
        pair: Any = errors.stack().idxmax()
        true, guess = pair
        hint = "Rows: the true verb. Columns: the guess. A dark diagonal is what one wants."
        title = "No frequent verb is taken for another"
        if errors.to_numpy().any():
            title = f"Most often, {names('verb', true)} is taken for {names('verb', guess)}"
    with drawing(path, title, hint, 2.4 + 0.31 * len(counts)) as figure:
        if counts.empty:
            say_nothing_to_show(figure, "no validation segment could be read")
            return
        axes = figure.subplots()
        image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for y, x in np.argwhere(percent.to_numpy() >= 0.5):
            value = percent.iloc[y, x]
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=8,
                      color="white" if value > 55 else BLACK)  # fmt: skip
        rows = [
            f"{short(names('verb', verb))} ({counts.loc[verb].sum():,})" for verb in counts.index
        ]
        columns = [short(names("verb", verb), 12) for verb in counts.index] + ["others"]
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
        axes.set(xlabel="guessed verb", ylabel="true verb (readable segments)")
        axes.grid(False)
        figure.colorbar(image, label="% of the row", shrink=0.6, aspect=30)


def _official(figures: Mapping, group: str, k: int) -> dict[str, float | None]:
    return {task: figures[f"{group}_{task}_accuracy_at_{k}"] for task in TASK_COLOURS}


def _percent(hits: pd.Series) -> float | None:
    return 100 * float(hits.mean()) if len(hits) else None
