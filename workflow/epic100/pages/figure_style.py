"""One look for all figures of the report.

Each figure is as narrow as a phone, its axes below one another, so that its text is legible there
and on any wider screen. Title and hint are in the file's metadata: the report's page shows them as
its own text.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter

from epic100.base.atomic import atomic_path

# These inches are 365 pixels in a browser.
WIDTH = 3.8

# Colour-blind people can distinguish these too: Okabe and Ito, "Color Universal Design" (2008).
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE = "#D55E00", "#CC79A7"
BLACK, WHITE, GREY, PALE, FAINT = "#000000", "#FFFFFF", "#999999", "#D9D9D9", "#EFEFEF"

SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}
TASK_COLOURS = {"verb": BLUE, "noun": ORANGE, "action": BLACK}

STYLE: dict[Any, object] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.color": FAINT,
    "legend.frameon": False,
    # Text can then be selected, searched and measured.
    "svg.fonttype": "none",
    # The same data give the same bytes.
    "svg.hashsalt": "epic100",
    # A class may be called $\frac$.
    "text.parse_math": False,
    "ytick.left": False,
}


@contextmanager
def drawing(
    path: str | os.PathLike,
    title: str,
    hint: str = "",
    height: float = 4.8,
) -> Iterator[Figure]:
    """Yield an empty figure to draw on, and save it as SVG at the end of the `with` block.

    Args:
        path: The SVG file to write.
        title: What the figure shows.
        hint: How to read the figure.
        height: Height of the figure in inches.
    """
    with matplotlib.rc_context():
        # A matplotlibrc of the working folder must not count.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.06)
        figure = Figure(figsize=(WIDTH, height), layout=layout)
        yield figure
        _keep_ticks(figure, layout)
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary,
                format="svg",
                metadata={"Date": None, "Title": title, "Description": hint},
                transparent=True,
            )


def _keep_ticks(figure: Figure, layout: ConstrainedLayoutEngine) -> None:
    """Fix the ticks of all axes after a first layout.

    A second layout is made when the figure is saved. With other ticks, it could draw longer labels
    than there is room for, and cut the last one.
    """
    if figure.axes:
        layout.execute(figure)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(axis.get_majorticklocs().tolist()))


def legend_on_top(figure: Figure, handles: Sequence | None = None) -> None:
    """Add one legend for the whole figure, above its axes.

    Args:
        figure: The figure.
        handles: What the legend shows; None: all that has a label in the first axes.
    """
    if not handles:
        handles, _ = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles=handles, ncols=min(len(handles), 2), loc="outside upper left", columnspacing=1.2
    )


def title_and_legend(axes: Axes, title: str) -> None:
    """Write a title above the axes, and the legend on a line between both."""
    axes.set_title(title, pad=20)
    axes.legend(
        ncols=3,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        columnspacing=0.9,
        borderpad=0.1,
        handlelength=1,
        handletextpad=0.4,
    )


def name_rows(axes: Axes, names: list[str], least: int = 4) -> None:
    """Label rows 0, 1, ... of a horizontal bar chart, the first on top.

    Args:
        axes: The chart.
        names: Labels of the rows.
        least: Fewest rows that the height is made for, so that a few bars stay slim.
    """
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(max(len(names), least) - 0.4, -0.6)


def log_seconds(axes: Axes) -> None:
    """Make the x axis logarithmic, with plain numbers at 1, 2, 5, 10, ... seconds."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def say_nothing_to_show(figure: Figure, why: str) -> None:
    """Write why a figure is empty, in place of axes without data."""
    figure.text(0.5, 0.45, why, ha="center", va="center", fontsize=12, color=GREY)


def short(text: str, length: int = 18) -> str:
    """Cut a text to `length` characters, the last of which is `…` then."""
    return text if len(text) <= length else text[: length - 1] + "…"


def time_unit(seconds: float) -> tuple[str, int]:
    """Return the unit that suits a duration, as its name and its length in seconds.

    It is the largest unit of which the duration has at least two: 90 minutes are `minutes`.
    """
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return unit, size
    return "seconds", 1


def in_words(seconds: float) -> str:
    """Format a duration in days, hours, minutes or seconds: `45 seconds`, `2.5 hours`."""
    unit, unit_seconds = time_unit(seconds)
    decimals = 0 if unit == "seconds" else 1
    return f"{seconds / unit_seconds:.{decimals}f} {unit}"
