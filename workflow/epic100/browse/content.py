"""What the page shows, as columns of numbers and tables of names: segments, guesses, videos."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.names import printable
from epic100.base.text_table import read_own_table, read_table
from epic100.scoring.metrics import official_hits, percent
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.segments.annotations import load_splits
from epic100.segments.drop_reasons import kind_of, read_dropped
from epic100.segments.official_lists import LISTS, TASKS, read_class_names, read_list
from epic100.video.scan_table import DAMAGED, OK, ScanRow, read_scan_table
from epic100.video.sheet import Video

PathLike = str | os.PathLike

BEST = 5  # guesses of a segment
PREDICTED = "val"  # the split whose predictions are shown
UNIT = 10_000  # probabilities are whole numbers of 1 / UNIT


def gather(
    videos: Mapping[str, Video],
    *,
    annotations: Mapping[str, PathLike],
    predictions: PathLike,
    dropped: PathLike,
    scans: Sequence[PathLike],
    timelines: Sequence[PathLike],
    name_csvs: Sequence[PathLike],
    lists: Mapping[str, str],
    reduce: str | None,
    run: str,
    **reading: Any,
) -> dict[str, Any]:
    """Collect what the page shows.

    Args:
        videos: Rows of the video sheet by video_id.
        annotations: CSV of each split to show, by its name; `val` is one of them.
        predictions: Predictions of split val.
        dropped: results/clean/dropped.tsv.
        scans: Scan tables.
        timelines: Tables `{video_id}.tsv` of `epic100.timeline`, of the videos that have one.
        name_csvs: CSVs that classes without a list are named after.
        lists: Paths by the keys of `official_lists.LISTS` and `CLASS_LISTS`.
        reduce: As for `predictions.complete_scores`.
        run: The run's name; "" for the default run.
        **reading: Passed to `load_annotations`: `classes`, `format` and `subset`.

    Returns:
        Plain lists and numbers, for `data.js`. `verbs` and `nouns` are names by class id;
        `tail_verbs`, `tail_nouns` and `unseen` the official lists.

        `segments` has columns over all splits, in the order of the CSVs: times in seconds from the
        video's first picture; `split`, `video` and `reason` as places in `splits`, `videos` and
        `reasons` (-1: kept); -1 is an unknown class.

        `guesses` has columns over the segments of its column `segment`, which have a prediction:
        `verb` and `noun` with `best` classes of each, most probable first; `verb_p` and `noun_p`
        with their probabilities, `verb_truth_p` and `noun_truth_p` with the truth's, in 1 / `unit`.
        `official` is top-1 action over all of val, in percent, as in metrics.json.

        `videos` has columns: `damaged` with [start, stop] in seconds, `timeline` with rows [start,
        stop, verb, noun, probability], or null where no timeline was made.

    Raises:
        EpicError: A file is wrong, or the predictions are not of these segments.
    """
    classes = reading["classes"]
    names = read_class_names(name_csvs, {k: v for k, v in lists.items() if k not in LISTS})
    table = _segments(annotations, dropped, videos, reading)
    official = {key: read_list(lists[key], key) if key in lists else [] for key in LISTS}
    shown = {name: place for place, name in enumerate(dict.fromkeys(table["video_id"]))}
    reasons = {text: place for place, text in enumerate(dict.fromkeys(table["reason"])) if text}
    places = {text: place for place, text in enumerate(reasons)} | {"": -1}
    splits = list(annotations)
    guesses, official_top1 = _guesses(predictions, reduce, table)
    return {
        "run": run,
        "unit": UNIT,
        "best": {task: min(BEST, classes[f"{task}s"]) for task in TASKS},
        "splits": splits,
        **{
            f"{task}s": [names(task, number) for number in range(classes[f"{task}s"])]
            for task in TASKS
        },
        "tail_verbs": official["tail_verbs"],
        "tail_nouns": official["tail_nouns"],
        "unseen": official["unseen_participants"],
        "reasons": [
            {"text": printable(text), "kind": printable(kind_of(text))} for text in reasons
        ],
        "segments": {
            "id": table["narration_id"].tolist(),
            "split": [splits.index(split) for split in table["split"]],
            "video": [shown[name] for name in table["video_id"]],
            "start": table["start_seconds"].round(2).tolist(),
            "stop": table["stop_seconds"].round(2).tolist(),
            "verb": table["verb"].tolist(),
            "noun": table["noun"].tolist(),
            "said": [printable(text) for text in table["said"]],
            "reason": [places[text] for text in table["reason"]],
        },
        "guesses": guesses,
        "official": official_top1,
        "videos": _videos([videos[name] for name in shown], scans, timelines, table),
    }


def _segments(
    annotations: Mapping[str, PathLike],
    dropped: PathLike,
    videos: Mapping[str, Video],
    reading: Mapping[str, Any],
) -> pd.DataFrame:
    """The annotations of all splits, with `split`, the narration, and why each was dropped."""
    why = {(row["split"], row["narration_id"]): row["reason"] for row in read_dropped(dropped)}
    said: dict[tuple[str, str], str] = {}
    for split, path in annotations.items() if reading["format"] == "official" else ():
        rows = read_table(path, ("narration_id",), about="an official CSV", delimiter=",")
        said |= {(split, row["narration_id"]): row.get("narration", "") for _, row in rows}
    table = load_splits(annotations, videos, **reading)
    keys = list(zip(table["split"], table["narration_id"], strict=True))
    return table.assign(
        said=[said.get(key, "") for key in keys], reason=[why.get(key, "") for key in keys]
    )


def _guesses(
    path: PathLike, reduce: str | None, table: pd.DataFrame
) -> tuple[dict[str, list[int]], float | None]:
    """The best classes of each predicted segment, ranked like the official evaluator ranks them,
    and top-1 action over all segments."""
    own = table[table["split"] == PREDICTED]
    predictions = read_predictions(path, PREDICTED)
    ids = own["narration_id"].tolist()
    *scores, predicted = complete_scores(predictions, ids, reduce)
    kept = predicted.numpy()
    found = {"segment": own.index[kept].tolist()}
    for task, score in zip(TASKS, scores, strict=True):
        rows = score.numpy()[kept]
        best = np.argsort(rows, axis=1)[:, ::-1][:, :BEST]
        chances = np.exp(np.take_along_axis(rows, best, axis=1))
        truth = own[task].to_numpy()[kept]
        found[task] = best.ravel().tolist()
        found[f"{task}_p"] = _whole(chances)
        found[f"{task}_truth_p"] = _whole(np.exp(rows[np.arange(len(rows)), truth]))
    hits = official_hits(*scores, *(own[task].to_numpy() for task in TASKS))
    return found, percent(hits["action_at_1"])


def _whole(chances: np.ndarray) -> list[int]:
    return (UNIT * chances).round().astype(int).ravel().tolist()


def _videos(
    shown: Sequence[Video],
    scans: Sequence[PathLike],
    timelines: Sequence[PathLike],
    table: pd.DataFrame,
) -> dict[str, list[Any]]:
    """Columns over the videos: how long, what is damaged, and the timeline where there is one."""
    scanned = {row.video_id: row for path in scans for row in read_scan_table(path)}
    made = {Path(path).name.removesuffix(".tsv"): path for path in timelines}
    last = table.groupby("video_id")["stop_seconds"].max()
    columns: dict[str, list[Any]] = {
        key: [] for key in ("id", "participant", "seconds", "state", "why", "damaged", "timeline")
    }
    for video in shown:
        row = scanned.get(video.video_id)
        seconds = max(_seconds(video, row), float(last[video.video_id]))
        values = (
            video.video_id,
            video.participant_id,
            round(seconds, 2),
            row.status if row else "not scanned",
            printable(row.reason) if row else "",
            _damaged(row, seconds),
            _timeline(made[video.video_id]) if video.video_id in made else None,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return columns


def _seconds(video: Video, row: ScanRow | None) -> float:
    return row.pictures / row.fps if row and row.fps else video.duration


def _damaged(row: ScanRow | None, seconds: float) -> list[list[float]]:
    """Damaged stretches in seconds; all of a video that cannot be read at all."""
    if row is None or row.status == OK:
        return []
    if row.status != DAMAGED or not row.fps:
        return [[0.0, round(seconds, 2)]]
    return [[round(frame / row.fps, 2) for frame in stretch] for stretch in row.damaged]


def _timeline(path: PathLike) -> list[list[float]]:
    """Rows [start, stop, verb, noun, probability] of the actions."""
    kinds: dict[str, Callable[[str], Any]] = {
        "start": float,
        "stop": float,
        "what": str,
        "verb": lambda text: int(text or -1),  # a damaged stretch has none of these three
        "noun": lambda text: int(text or -1),
        "probability": lambda text: float(text or 0),
    }
    about = f"a timeline of the rule timeline; make it again with `snakemake -R {path}`"
    rows = read_own_table(path, kinds, about=about)
    shown = [name for name in kinds if name != "what"]
    return [[row[name] for name in shown] for row in rows if row["what"] == "action"]
