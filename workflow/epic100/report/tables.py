"""The tables of the report, as rows for its template, and what others have published."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epic100.base.text_table import read_frame
from epic100.model.published import published
from epic100.scoring.metrics import TASKS
from epic100.segments.drop_reasons import kind_of, read_drop_kinds
from epic100.submission.check import MOST, prior_words

VAL_SEGMENTS = 9668  # in the official list; figures over other segments are not comparable


@dataclass(frozen=True)
class Comparable:
    """Top-1 of a model on the official val segments, in percent.

    Attributes:
        name: The model.
        verb: Verb accuracy.
        noun: Noun accuracy.
        action: Verb and noun both right, as the leaderboard counts.
        action_head: Accuracy of the model's own scores of actions, as LaViLa and AVION report it.
    """

    name: str
    verb: float | None
    noun: float | None
    action: float | None
    action_head: float | None


@dataclass(frozen=True)
class Row:
    """Accuracies of verb, noun and action over one group of segments.

    Attributes:
        name: The group.
        segments: How many segments are in it; None if unknown.
        percents: One per task; None where there is no figure.
    """

    name: str
    segments: int | None
    percents: Sequence[float | None]


def accuracies(figures: Mapping[str, Any], group: str, k: int = 1) -> list[float | None]:
    """Return the accuracies of verb, noun and action over a group of segments, in percent.

    Args:
        figures: The content of metrics.json.
        group: Such as `overall`.
        k: The best guesses among which the truth is.
    """
    return [figures.get(f"{group}_{task}_accuracy_at_{k}") for task in TASKS]


def official_rows(figures: Mapping[str, Any], unseen: Collection[str]) -> list[Row]:
    """Return the official figures by group of segments.

    Args:
        figures: The content of metrics.json.
        unseen: Participants without a video in train; empty if there is no such list.
    """
    people = figures["diagnostics"]["participants"]
    seen = {name: found for name, found in people.items() if name not in unseen}
    strangers = sum(found["segments"] for name, found in people.items() if name in unseen)
    rows = [
        Row("all, top-1", figures["segments"], accuracies(figures, "overall")),
        Row("all, top-5", figures["segments"], accuracies(figures, "overall", 5)),
        Row("with readable video, top-1", figures["predicted"], accuracies(figures, "readable")),
    ]
    if strangers and seen:
        total = sum(found["segments"] for found in seen.values())
        mean = [
            sum(found["segments"] * found[f"{task}_accuracy_at_1"] for found in seen.values())
            / total
            for task in TASKS
        ]
        rows.append(Row("seen participants, top-1", total, mean))
    beyond = accuracies(figures, "beyond_train")
    classes = [figures["diagnostics"][f"{task}_mean_class_accuracy"] for task in TASKS]
    return [
        *rows,
        Row("unseen participants, top-1", strangers, accuracies(figures, "unseen")),
        Row("tail classes, top-1", None, accuracies(figures, "tail")),
        Row("pairs that train lacks, top-1", figures["beyond_train"], beyond),
        Row("mean over classes, top-1", None, classes),
    ]


def published_rows(figures: Mapping[str, Any]) -> list[Comparable]:
    """Return this run and the published models, or [] for a run on other segments than theirs."""
    if figures["segments"] != VAL_SEGMENTS:
        return []
    head = figures.get("action_head_accuracy_at_1")
    verb, noun, action = accuracies(figures, "overall")
    others = [
        Comparable(
            model.title, model.verb, model.noun,
            None if model.own_scores else model.action, model.action if model.own_scores else None,
        )
        for model in published().values()
    ]  # fmt: skip
    return [Comparable("this run", verb, noun, action, head), *others]


def dropped_counts(dropped: str | os.PathLike) -> dict[Any, dict[Any, int]]:
    """Count dropped segments by reason, the most common first, then by split.

    Args:
        dropped: results/clean/dropped.tsv.
    """
    table = read_frame(dropped, dtype=str)
    counts = table.groupby([table["reason"].map(kind_of), "split"]).size().unstack(fill_value=0)
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return counts.loc[order, table["split"].unique()].to_dict("index")


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
