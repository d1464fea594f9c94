"""results/compare.html: all runs on one page that needs no network and fits a phone."""

import base64
import os
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from epic100.base.atomic import links, write_text
from epic100.pages.bootstrap import RESAMPLES
from epic100.pages.compared_runs import GROUPS, KEYS, Comparison, Run, what_differs
from epic100.pages.figure_style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from epic100.pages.template import template
from epic100.scoring.metrics import TASKS, wilson

# Runs have these colours in turn, which are visible on light and dark pages.
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
# The drawing of curves is this wide and high; the browser stretches it.
SIZE = 1000


def write_compare_page(comparison: Comparison, path: str | os.PathLike) -> None:
    """Write the page of all runs. `compare.js` computes the differences to a chosen baseline.

    All text that comes from files is escaped.

    Args:
        comparison: The result of `pages.compared_runs.read_runs`.
        path: The HTML file.
    """
    runs, differing = comparison.runs, what_differs(comparison.runs)
    pages = {"report": "report.html", "segments": "browse/index.html", "card": "model_card.md"}
    content = {
        "drawn": base64.b64encode(comparison.drawn.astype(np.uint8).tobytes()).decode(),
        "sizes": {key: comparison.sizes[key].tolist() for key in KEYS},
        "settings": differing,
        "runs": [
            {
                "name": run.name,
                "scores": _scores(run, comparison),
                "right": {key: run.right[key].tolist() for key in KEYS},
            }
            for run in runs
        ],
    }
    panels = (
        _panel("Training loss, mean of the epoch", "loss", runs),
        _panel("Top-1 actions on val, in %", "action_top1", runs),
    )
    page = template("compare.html.j2").render(
        runs=runs,
        data_name=runs[0].figures.get("data", "val"),
        segments=comparison.segments,
        videos=len(comparison.sizes["overall_action"]),
        notes=comparison.notes,
        differing=differing,
        groups=GROUPS,
        resamples=RESAMPLES,
        content=content,
        panels=[panel for panel in panels if panel],
        colours=COLOURS,
        pages={
            run.name: links(path, {name: run.folder / file for name, file in pages.items()})
            for run in runs
        },
    )
    write_text(path, page)


def _scores(run: Run, comparison: Comparison) -> dict[str, tuple[float, float, float]]:
    """Return the accuracies of a run with their intervals, by `{group}_{task}`.

    A group without segments is left out.
    """
    sizes = {key: int(counts.sum()) for key, counts in comparison.sizes.items()}
    sizes |= {f"readable_{task}": run.figures["predicted"] for task in TASKS}
    percents = {key: run.figures.get(f"{key}_accuracy_at_1") for key in sizes}
    return {
        key: (percent, *wilson(percent, sizes[key]))
        for key, percent in percents.items()
        if percent is not None and sizes[key]
    }


def _panel(title: str, column: str, runs: list[Run]) -> dict[str, Any] | None:
    """Draw a column of the epochs of all runs as lines; None if no run has it.

    Returns:
        `title`; `lines`, the points of a polyline by the place of the run; `x` and `y`, the places
        of ticks with their texts.
    """
    curves = {
        place: run.history.set_index("epoch")[column].dropna()
        for place, run in enumerate(runs)
        if run.history is not None
    }
    curves = {place: values for place, values in curves.items() if len(values)}
    if not curves:
        return None
    last = max(values.index.max() for values in curves.values())
    highest = max(values.max() for values in curves.values())
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, highest)
    x_ticks = MaxNLocator(8, integer=True).tick_values(0, last)
    return {
        "title": title,
        "lines": {place: _points(values, last, ticks[-1]) for place, values in curves.items()},
        "x": [(SIZE * tick / last, f"{tick:g}") for tick in x_ticks if tick <= last],
        "y": [(SIZE * tick / ticks[-1], f"{tick:g}") for tick in ticks],
    }


def _points(values: pd.Series, last: float, highest: float) -> str:
    """Write the points of a polyline from values by epoch."""
    # A single value becomes a short line, since a line of one point is not visible.
    epochs = np.append(values.index, values.index[-1] if len(values) > 1 else values.index[0] - 0.3)
    heights = np.append(values, values.iloc[-1])
    places = zip(SIZE * epochs / last, SIZE - SIZE * heights / highest, strict=True)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
