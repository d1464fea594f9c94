"""One look for all pictures, made for where they are shown: Snakemake's report.

The report shows a picture at its own size (96 pixels an inch), shrinks what is too wide and centres
what is too tall, so sizes here fit a window on a screen of 1366 x 768, beside the report's menu.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from epic100.base.atomic import atomic_path

WIDTH, MAX_HEIGHT = 10.0, 6.2  # inches
DPI = 110  # of photographs; drawings are SVG
HEAD, KEY = 0.6, 0.28  # inches of the two lines on top, and of a legend below them

# Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind people too.
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE, BLACK, GREY = "#D55E00", "#CC79A7", "#000000", "#999999"
PALE, FAINT = "#D9D9D9", "#EFEFEF"

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
    "svg.fonttype": "path",  # looks the same whatever fonts the reader has
    "svg.hashsalt": "epic100",  # the same bytes from the same data
    "text.parse_math": False,  # a class may be called $\frac$
    "ytick.left": False,
}


@contextmanager
def drawing(
    path: str | os.PathLike, title: str, hint: str = "", height: float = 4.8
) -> Iterator[Figure]:
    """Yield an empty figure of `height` inches and save it, whole or not at all, at the end.

    `title` says what the picture shows, `hint` how to read it. The suffix of `path` is the format.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, min(height, MAX_HEIGHT)))
        _leave_on_top(figure, HEAD)
        figure.text(0.01, 1 - 0.1 / figure.get_figheight(), title, va="top", size=12, weight="bold")
        figure.text(0.01, 1 - 0.33 / figure.get_figheight(), hint, va="top", color="#444444")
        yield figure
        plain = Path(path).suffix == ".svg"
        # To memory first: Pillow takes a write that the disk cuts short for a whole one.
        picture = io.BytesIO()
        metadata = {"Date": None} if plain else None
        figure.savefig(picture, format=Path(path).suffix[1:], dpi=DPI, metadata=metadata)
        with atomic_path(path) as temporary:
            temporary.write_bytes(picture.getvalue())


def legend_on_top(figure: Figure, handles: Sequence | None = None) -> None:
    """One legend for the whole figure, in a line of its own below title and hint."""
    # Not loc="outside": that one is laid out from the figure's edge, over the title.
    _leave_on_top(figure, HEAD + KEY)
    place = (0.0, 1 - (HEAD - 0.1) / figure.get_figheight())
    handles = handles or figure.axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, ncols=len(handles), loc="upper left", bbox_to_anchor=place)


def name_rows(axes: Axes, names: list[str], size: float = 9, least: int = 4) -> None:
    """Name rows 0, 1, ... of a chart of horizontal bars, the first on top; few rows stay slim."""
    axes.set_yticks(np.arange(len(names)), names, fontsize=size)
    axes.set_ylim(max(len(names), least) - 0.4, -0.6)


def stack_splits(axes: Axes, table: pd.DataFrame, height: float, decimals: int = 0) -> None:
    """A horizontal bar for each row of `table`, its columns, named by split, end to end; the legend
    has their sums."""
    offset = np.zeros(len(table))
    for split in (s for s in SPLIT_COLOURS if s in table):
        widths = table[split].to_numpy()
        axes.barh(range(len(table)), widths, height, offset, color=SPLIT_COLOURS[split],
                  label=f"{split} ({widths.sum():,.{decimals}f})")  # fmt: skip
        offset += widths


def log_seconds(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2, 5, 10, ..."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def say_nothing_to_show(figure: Figure, why: str) -> None:
    """Say why a picture is empty, in place of axes without data."""
    figure.text(0.5, 0.45, why, ha="center", va="center", fontsize=12, color=GREY)


def time_unit(seconds: float) -> tuple[str, int]:
    """Name of the unit in which so many seconds are a handy number, and its seconds."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return unit, size
    return "seconds", 1


def in_words(seconds: float) -> str:
    """A time in hours, minutes or seconds."""
    unit, size = time_unit(seconds)
    return f"{seconds / size:.{int(size > 1)}f} {unit}"


def short(text: str, length: int = 18) -> str:
    """`text`, cut to `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _leave_on_top(figure: Figure, inches: float) -> None:
    rect = (0, 0, 1, 1 - inches / figure.get_figheight())
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06, rect=rect)
