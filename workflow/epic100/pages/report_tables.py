"""The tables of the report, as rows for its template, and what others have published."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from epic100.base.disk import read_text
from epic100.base.text_table import read_frame
from epic100.data.segment_list import read_drop_types, reason_type
from epic100.model.published import published
from epic100.scoring.metrics import TASKS
from epic100.scoring.submission import MAX_PRIOR_SHARE, prior_words
from epic100.video.sheet import SPLITS

# The report shows at most this many mistakes of verbs, and as many of nouns.
MISTAKES = 12
# The colour is partly transparent, so numbers on it are legible on light and dark pages.
BAR = "#56B4E966"
CLASS_COLUMNS = {
    "name": "class",
    "train_segments": "train",
    "val_segments": "val",
    "top1": "top-1",
    "top5": "top-5",
    "often_taken_for": "often taken for",
}
# The report gives advice when a metric reaches one of these. They are judgements, not measurements.
# A gain in accuracy counts from this many percentage points on.
LEAST_GAIN = 0.5
# Advice is given if this share of the training time, or more, is spent waiting for data.
LEAST_WAITING = 0.2
# The loss still falls if the last fifth of the epochs took off more than this share of it.
LEAST_DECREASE = 0.1
# The model fits train too closely if its loss on val is over this multiple of that on train.
MOST_LOSS_RATIO = 2.0
# The accuracies of fewer validated epochs give no advice.
LEAST_EPOCHS = 5
# The official list of val has this number of segments. Metrics over others are not comparable.
VAL_SEGMENTS = 9668


def accuracies(metrics: Mapping[str, Any], group: str, k: int = 1) -> list[float | None]:
    """Look up the accuracies of verb, noun and action over a group of segments, in percent.

    Args:
        metrics: The content of metrics.json.
        group: A group of segments, such as `overall` or `tail`.
        k: A segment is right if its label is among the k best guesses, 1 or 5.
    """
    return [metrics.get(f"{group}_{task}_accuracy_at_{k}") for task in TASKS]


def hardware(trained_on: Mapping[str, Any]) -> str:
    """Say on what a model was trained: `2 x NVIDIA H100`, `4 cores of ...`; "" if it is unknown."""
    if "gpus" in trained_on:
        return f"{trained_on['gpus']} x {trained_on['hardware']}"
    if "cores" in trained_on:
        cores = "1 core" if trained_on["cores"] == 1 else f"{trained_on['cores']} cores"
        return f"{cores} of {trained_on['hardware']}"
    return ""


def official_rows(
    metrics: Mapping[str, Any], unseen: Collection[str]
) -> list[tuple[str, int | None, Sequence[float | None]]]:
    """Make the rows of the table of official accuracies, one for each group of segments.

    Args:
        metrics: The content of metrics.json.
        unseen: Participants without a video in train; empty if there is no such list.

    Returns:
        For each group its name, its number of segments (None if unknown), and the accuracies of
        verb, noun and action over it in percent, None where there is no metric.
    """
    diagnostics, count = metrics["diagnostics"], metrics["segments"]
    people = pd.DataFrame.from_dict(diagnostics["participants"], orient="index")
    is_unseen = people.index.isin(unseen)
    seen, unseen_count = people[~is_unseen], int(people["segments"][is_unseen].sum())
    rows: list[tuple[str, int | None, Sequence[float | None]]] = [
        ("all, top-1", count, accuracies(metrics, "overall")),
        ("all, top-5", count, accuracies(metrics, "overall", 5)),
        ("with readable video, top-1", metrics["predicted"], accuracies(metrics, "readable")),
    ]
    # If no participant is unseen, this row would repeat the one of all segments.
    if unseen_count and len(seen):
        # The mean over segments is that over participants, weighted by their segments.
        columns = seen[[f"{task}_accuracy_at_1" for task in TASKS]]
        means = np.average(columns, axis=0, weights=seen["segments"]).tolist()
        rows.append(("seen participants, top-1", int(seen["segments"].sum()), means))
    new_pairs = accuracies(metrics, "beyond_train")
    class_means = [diagnostics[f"{task}_mean_class_accuracy"] for task in TASKS]
    return [
        *rows,
        ("unseen participants, top-1", unseen_count, accuracies(metrics, "unseen")),
        ("tail classes, top-1", None, accuracies(metrics, "tail")),
        ("pairs that train lacks, top-1", metrics["beyond_train"], new_pairs),
        ("mean over classes, top-1", None, class_means),
    ]


def published_rows(metrics: Mapping[str, Any]) -> dict[str, Sequence[float | None]]:
    """Make the rows of the table that compares a run with published models.

    Returns:
        By name of the model: top-1 on the official val segments in percent, of verbs, of nouns, of
        actions as the leaderboard counts (verb and noun both right), and of the model's own scores
        of actions, as LaViLa and AVION report it. {} for a run on other segments.
    """
    if metrics["segments"] != VAL_SEGMENTS:
        return {}
    rows: dict[str, Sequence[float | None]] = {
        "this run": [*accuracies(metrics, "overall"), metrics.get("action_head_accuracy_at_1")]
    }
    for model in published().values():
        actions = (None, model.action) if model.own_scores else (model.action, None)
        rows[model.title] = [model.verb, model.noun, *actions]
    return rows


def dropped_counts(dropped: str | os.PathLike) -> dict[Any, dict[Any, int]]:
    """Count the dropped segments by reason, then by split: `{"video missing": {"train": 3}}`.

    The most common reason is first.

    Args:
        dropped: results/clean/dropped.tsv.
    """
    table = read_frame(dropped, dtype=str)
    counts = table.groupby([table["reason"].map(reason_type), "split"]).size().unstack(fill_value=0)
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return counts.loc[order, table["split"].unique()].to_dict("index")


def kept_counts(salvage: str | os.PathLike) -> dict[str, int]:
    """Count the kept segments by split: the lines of the clean lists in the folder of a table.

    Args:
        salvage: results/clean/salvage.tsv.
    """
    counts = {}
    for split in SPLITS:
        path = Path(salvage).with_name(f"{split}.txt")
        if path.is_file():
            counts[split] = len(read_text(path).splitlines())
    return counts


def class_tables(classes: pd.DataFrame) -> dict[str, Markup]:
    """Make the table of val's verbs and that of its nouns, each with the most frequent first.

    Args:
        classes: The result of `pages.examples.by_class`.
    """
    shown = classes[classes["val_segments"] > 0].rename(columns=CLASS_COLUMNS)
    tables = {}
    for task, rows in shown.groupby("task", sort=False):
        caption = f"{len(rows)} {task}s of val"
        bars = {"top-1": 100, "top-5": 100}
        tables[str(task)] = styled(rows[[*CLASS_COLUMNS.values()]], f"{task}s", caption, bars)
    return tables


def mistakes_table(metrics: Mapping[str, Any], classes: pd.DataFrame) -> Markup:
    """Make the table of the most frequent mistakes: which class was taken for which, and how often.

    Args:
        metrics: The content of metrics.json.
        classes: The result of `pages.examples.by_class`, for the class names.
    """
    names = classes.set_index(["task", "class_id"])["name"].to_dict()
    rows = []
    for task in ("verb", "noun"):
        for mistake in metrics["diagnostics"][f"{task}_confusions"][:MISTAKES]:
            true, guess = names[task, mistake["true"]], names[task, mistake["predicted"]]
            rows.append((true, guess, mistake["count"], mistake["share"]))
    table = pd.DataFrame(rows, columns=["shown", "taken for", "segments", "% of its class"])
    table = table.sort_values("segments", ascending=False, kind="stable")
    return styled(table, "mistakes", "What is taken for what", {"% of its class": 100})


def people_table(metrics: Mapping[str, Any], salvage: pd.DataFrame, policy: str) -> Markup:
    """Make the table of participants: segments, those lost to damage, and accuracy on val.

    The accuracy is over the segments with a prediction, as in the tables of classes.

    Args:
        metrics: The content of metrics.json.
        salvage: The table results/clean/salvage.tsv, a row for each participant.
        policy: The cleaning policy of the run.
    """
    salvage = salvage.set_index("participant_id")
    val = pd.DataFrame(metrics["diagnostics"]["participants"]).T.reindex(salvage.index)
    table = pd.DataFrame(
        {
            "participant": salvage.index,
            "segments": salvage["segments"],
            "dropped": salvage["segments"] - salvage[f"kept_by_{policy}"],
            "saved": salvage["kept_by_segment"] - salvage["kept_by_video"],
            # This type allows an empty cell, for a participant without a segment in val.
            "val": val["predicted"].astype("Int64"),
            "% right": val["readable_action_accuracy_at_1"].astype(float),
        }
    )
    return styled(table, "people", f"{len(table)} participants", {"% right": 100})


def styled(table: pd.DataFrame, name: str, caption: str, bars: Mapping[str, float]) -> Markup:
    """Turn a table into HTML with escaped texts, for `sort.js` to sort on the page.

    Args:
        table: The rows.
        name: The id of the table on the page.
        caption: What the table shows.
        bars: For each column with bars behind its numbers, the number that fills the cell.
    """
    numbers = table.select_dtypes("number").columns
    align_right: Any = dict.fromkeys(numbers, [{"selector": "", "props": "text-align: right"}])
    style = (
        table.style.hide(axis="index")
        .set_uuid(name)
        .set_caption(str(escape(caption)))
        .format(precision=1, thousands=",", na_rep="-", escape="html")
        .format_index(escape="html", axis=1)
        .set_table_attributes('class="sortable"')
        .set_table_styles(align_right, overwrite=False)
    )
    for column, full_bar in bars.items():
        style = style.bar(subset=[column], vmin=0, vmax=full_bar, color=BAR, height=80, props="")
    return Markup(style.to_html())


def next_steps(
    metrics: Mapping[str, Any], history: pd.DataFrame | None, policy: str, saved: int
) -> list[str]:
    """Write a sentence of advice for each metric that can be improved.

    Args:
        metrics: The content of metrics.json.
        history: The epochs of the training, if the model was trained here.
        policy: The cleaning policy of the run.
        saved: Segments that policy `segment` keeps and policy `video` does not.
    """
    steps = []
    score = "overall_action_accuracy_at_1"
    not_predicted = metrics["segments"] - metrics["predicted"]
    readable = metrics.get("readable_action_accuracy_at_1")
    if not_predicted and readable is not None:
        points = readable - metrics[score]
        steps.append(
            f"{not_predicted:,} of {metrics['segments']:,} val segments have no readable video: "
            f"with it, about {points:+.1f} points of actions."
        )
    if policy == "video" and saved:
        steps.append(f"clean: policy: segment keeps {saved:,} more segments.")
    gains = {
        method: values[score] - metrics[score]
        for method, values in metrics.get("by_reduce", {}).items()
    }
    best = max(gains, key=gains.__getitem__, default="")
    if gains.get(best, 0) >= LEAST_GAIN:
        steps.append(f"export: reduce: {best} has {gains[best]:+.1f} points of actions on val.")
    return [*steps, *_training_steps(metrics, history)]


def _training_steps(metrics: Mapping[str, Any], history: pd.DataFrame | None) -> Iterator[str]:
    """Yield a sentence of advice for each metric of the training that can be improved.

    Args:
        metrics: The content of metrics.json.
        history: The epochs of the training, if the model was trained here.
    """
    if history is None or history.empty:
        return
    waiting = (history["seconds"] * history["data_share"]).sum() / history["seconds"].sum()
    if waiting >= LEAST_WAITING:
        yield (
            f"{100 * waiting:.0f} % of the training waited for data: more workers, a faster disk, "
            "or small copies of the videos."
        )
    losses = history["loss"]
    accuracy = history["action_top1"].dropna()
    # The loss at the end is compared with that before the last fifth of the epochs.
    fifth = len(losses) // 5
    if fifth and losses.iloc[-1] < (1 - LEAST_DECREASE) * losses.iloc[-1 - fifth]:
        yield "The training loss still falls at the end: more epochs."
    if len(accuracy) >= LEAST_EPOCHS and accuracy.max() - accuracy.iloc[-1] >= LEAST_GAIN:
        first_best = int(history["epoch"][history["action_top1"] == accuracy.max()].iloc[0])
        yield f"Accuracy on val was {accuracy.max():.1f} at epoch {first_best}: fewer epochs."
    if metrics.get("loss") and metrics["loss"] > MOST_LOSS_RATIO * losses.iloc[-1]:
        yield (
            f"The loss is {losses.iloc[-1]:.2f} in training and {metrics['loss']:.2f} on val: more "
            "augmentation or weight decay, or fewer epochs."
        )


def warning(metrics: Mapping[str, Any], dropped: str | os.PathLike) -> str:
    """Write why the metrics of a run are worth little; an empty text if they are not.

    They say little if many segments have no prediction, or if the model was trained on them.

    Args:
        metrics: The content of metrics.json.
        dropped: results/clean/dropped.tsv.
    """
    if metrics["predicted"] < (1 - MAX_PRIOR_SHARE) * metrics["segments"]:
        dropped_ids = list(read_drop_types(dropped, "val"))
        words = prior_words(dropped_ids, metrics["segments"], dropped, "val")
        return f"These figures are worth little: {words}."
    if metrics["trained_on"].get("split") == "trainval":
        return "The model learned from these segments too (train: split: trainval)."
    return ""
