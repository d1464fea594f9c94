"""The tables of the report, as rows for its template."""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epic100.base.text_table import read_frame
from epic100.report.published import PUBLISHED, VAL_SEGMENTS, Published
from epic100.scoring.metrics import TASKS
from epic100.segments.drop_reasons import kind_of, read_drop_kinds
from epic100.submission.check import MOST, prior_words

Z_95 = 1.959964


@dataclass(frozen=True)
class Cell:
    """An accuracy in percent, with its 95 % interval over segments where their number is known."""

    percent: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """Accuracies of verb, noun and action over one group of segments.

    Attributes:
        name: The group.
        segments: How many segments are in it; None if unknown.
        cells: One per task; None where there is no figure.
    """

    name: str
    segments: int | None
    cells: Sequence[Cell | None]


def wilson(percent: float, number: int) -> tuple[float, float]:
    """Compute the 95 % interval of an accuracy (Wilson 1927).

    Args:
        percent: Share of the segments that are right, 0 to 100.
        number: How many segments there are, 1 or more.

    Returns:
        Lower and upper bound in percent.
    """
    share, z2 = percent / 100, Z_95**2
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = Z_95 * math.sqrt(share * (1 - share) / number + z2 / (4 * number**2)) / (1 + z2 / number)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def official_rows(figures: Mapping[str, Any], unseen: Collection[str]) -> list[Row]:
    """Return the official figures by group of segments.

    Args:
        figures: The content of metrics.json.
        unseen: Participants without a video in train; empty if there is no such list.
    """
    people = figures["diagnostics"]["participants"]
    seen = {name: found for name, found in people.items() if name not in unseen}
    strangers = sum(found["segments"] for name, found in people.items() if name in unseen)
    every, predicted = figures["segments"], figures["predicted"]
    rows = [
        _row("all, top-1", every, _official(figures, "overall", 1)),
        _row("all, top-5", every, _official(figures, "overall", 5)),
        _row("with readable video, top-1", predicted, _official(figures, "readable", 1)),
    ]
    if strangers and seen:
        total = sum(found["segments"] for found in seen.values())
        mean = [
            sum(found["segments"] * found[f"{task}_accuracy_at_1"] for found in seen.values())
            / total
            for task in TASKS
        ]
        rows.append(_row("seen participants, top-1", total, mean))
    rows.append(_row("unseen participants, top-1", strangers, _official(figures, "unseen", 1)))
    rows.append(_row("tail classes, top-1", None, _official(figures, "tail", 1)))
    rows.append(
        _row("pairs that train lacks, top-1", figures["beyond_train"],
             _official(figures, "beyond_train", 1))
    )  # fmt: skip
    classes = [figures["diagnostics"][f"{task}_mean_class_accuracy"] for task in TASKS]
    rows.append(_row("mean over classes, top-1", None, classes))
    return rows


def published_rows(figures: Mapping[str, Any]) -> list[Published]:
    """Return this run and the published models, or [] for a run on other segments than theirs."""
    if figures["segments"] != VAL_SEGMENTS:
        return []
    verb, noun, action = _official(figures, "overall", 1)
    head = figures.get("action_head_accuracy_at_1")
    return [Published("this run", verb, noun, action, head), *PUBLISHED]


def dropped_rows(dropped: str | os.PathLike) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Count dropped segments by reason and split.

    Args:
        dropped: results/clean/dropped.tsv.

    Returns:
        The splits, and one (reason, numbers by split) for each reason, the most common first.
    """
    table = read_frame(dropped, dtype=str)
    splits = list(dict.fromkeys(table["split"]))
    counts = table.groupby([table["reason"].map(kind_of), "split"]).size().unstack(fill_value=0)
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return splits, [(str(kind), counts.loc[kind, splits].tolist()) for kind in order]


def warning(figures: Mapping[str, Any], dropped: str | os.PathLike) -> str:
    """Return what makes the figures worth little, or an empty text.

    Args:
        figures: The content of metrics.json.
        dropped: results/clean/dropped.tsv.
    """
    if figures["predicted"] < (1 - MOST) * figures["segments"]:
        lost = list(read_drop_kinds(dropped, "val"))
        words = prior_words(lost, figures["segments"], dropped, "val")
        return f"These figures are worth little: {words}."
    if figures["trained_on"].get("split") == "trainval":
        return "The model learned from these segments too (train: split: trainval)."
    if figures["trained_on"].get("chosen_on") == "val":
        return f"These segments chose among {figures['trained_on']['chosen_of']} probes."
    return ""


def _official(figures: Mapping[str, Any], group: str, k: int) -> list[float | None]:
    return [figures.get(f"{group}_{task}_accuracy_at_{k}") for task in TASKS]


def _row(name: str, segments: int | None, percents: Sequence[float | None]) -> Row:
    cells = []
    for percent in percents:
        interval = wilson(percent, segments) if percent is not None and segments else ()
        cells.append(None if percent is None else Cell(percent, *interval))
    return Row(name, segments, cells)
