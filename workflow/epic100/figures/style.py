"""One look for all pictures, made for Snakemake's report, where they are shown.

The report shows a picture at its own size (96 pixels per inch), shrinks what is too wide and
centres what is too tall. So sizes here fit a window on a 1366 x 768 screen, beside the report's
menu.
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
DPI = 110  # for photographs; drawings are SVG
HEAD, KEY = 0.6, 0.28  # inches: height of title and hint, and of a legend below them

# Okabe and Ito, "Color Universal Design" (2008): colour-blind people can distinguish them too.
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
    "svg.fonttype": "path",  # looks the same with any fonts
    "svg.hashsalt": "epic100",  # the same data give the same bytes
    "text.parse_math": False,  # a class may be called $\frac$
    "ytick.left": False,
}


@contextmanager
def drawing(
    path: str | os.PathLike, title: str, hint: str = "", height: float = 4.8
) -> Iterator[Figure]:
    """Yield an empty figure and save it at the end, whole or not at all.

    Args:
        path: The picture to write; its suffix is the format.
        title: What the picture shows.
        hint: How to read it.
        height: Inches.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, min(height, MAX_HEIGHT)))
        _leave_on_top(figure, HEAD)
        figure.text(0.01, 1 - 0.1 / figure.get_figheight(), title, va="top", size=12, weight="bold")
        figure.text(0.01, 1 - 0.33 / figure.get_figheight(), hint, va="top", color="#444444")
        yield figure
        plain = Path(path).suffix == ".svg"
        # To memory first: Pillow does not notice a write that the disk cuts short.
        picture = io.BytesIO()
        metadata = {"Date": None} if plain else None
        figure.savefig(picture, format=Path(path).suffix[1:], dpi=DPI, metadata=metadata)
        with atomic_path(path) as temporary:
            temporary.write_bytes(picture.getvalue())


def legend_on_top(figure: Figure, handles: Sequence | None = None) -> None:
    """Add one legend for the whole figure, on a line of its own below title and hint."""
    # Not loc="outside": that starts at the figure's edge and covers the title.
    _leave_on_top(figure, HEAD + KEY)
    place = (0.0, 1 - (HEAD - 0.1) / figure.get_figheight())
    handles = handles or figure.axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, ncols=len(handles), loc="upper left", bbox_to_anchor=place)


def name_rows(axes: Axes, names: list[str], size: float = 9, least: int = 4) -> None:
    """Label rows 0, 1, ... of a horizontal bar chart, the first on top.

    Args:
        axes: The chart.
        names: Labels of the rows.
        size: Font size.
        least: Rows that the height is made for, so that a few bars stay slim.
    """
    axes.set_yticks(np.arange(len(names)), names, fontsize=size)
    axes.set_ylim(max(len(names), least) - 0.4, -0.6)


def stack_splits(axes: Axes, table: pd.DataFrame, height: float, decimals: int = 0) -> None:
    """Draw a stacked horizontal bar per row of `table`; the legend shows the sum of each split.

    Args:
        axes: Where to draw.
        table: One row per bar, one column per split.
        height: Height of a bar; rows are 1 apart.
        decimals: Decimals of the sums.
    """
    offset = np.zeros(len(table))
    for split in (s for s in SPLIT_COLOURS if s in table):
        widths = table[split].to_numpy()
        axes.barh(range(len(table)), widths, height, offset, color=SPLIT_COLOURS[split],
                  label=f"{split} ({widths.sum():,.{decimals}f})")  # fmt: skip
        offset += widths


def log_seconds(axes: Axes) -> None:
    """Use a logarithmic x axis with plain numbers at 1, 2, 5, 10, ..."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def say_nothing_to_show(figure: Figure, why: str) -> None:
    """Write why a picture is empty, in place of axes without data."""
    figure.text(0.5, 0.45, why, ha="center", va="center", fontsize=12, color=GREY)


def time_unit(seconds: float) -> tuple[str, int]:
    """Return the name and length in seconds of a unit that suits this time."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return unit, size
    return "seconds", 1


def in_words(seconds: float) -> str:
    """Format a time in hours, minutes or seconds."""
    unit, size = time_unit(seconds)
    return f"{seconds / size:.{int(size > 1)}f} {unit}"


def short(text: str, length: int = 18) -> str:
    """Cut `text` to `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _leave_on_top(figure: Figure, inches: float) -> None:
    rect = (0, 0, 1, 1 - inches / figure.get_figheight())
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06, rect=rect)
