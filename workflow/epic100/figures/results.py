"""Predictions on val compared with the labels: per class, what is confused, and with frames."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from epic100.base.atomic import write_text
from epic100.base.errors import DiskError, EpicError
from epic100.base.guarded import ProcessError
from epic100.figures.style import (
    BLACK,
    BLUE,
    PALE,
    TASK_COLOURS,
    WHITE,
    drawing,
    name_rows,
    say_nothing_to_show,
    short,
)
from epic100.segments.official_lists import TASKS, ClassNames
from epic100.segments.segment_list import read_segments
from epic100.video.index_file import find_index
from epic100.video.reader import VideoReader
from epic100.video.sheet import find_files

TOP = 16  # classes with a bar each, at most
SQUARE = 8  # verbs in the confusion table, at most
ENOUGH = 10  # segments that a class needs before a title calls it a finding


EXAMPLES, FRAMES, COLUMNS = 6, 6, 3
WIDTH = 140  # pixels of a frame
GAP = 3  # pixels between frames


def by_class(
    outcome: pd.DataFrame, pairs: Sequence[tuple[int, int, int]], names: ClassNames
) -> pd.DataFrame:
    """Compute the accuracy of every verb and noun of val or train, over predicted segments.

    Args:
        outcome: See `scoring.outcomes.outcomes`.
        pairs: (verb, noun, count in training).
        names: Class names.

    Returns:
        Columns `task class_id name train_segments val_segments top1 top5 often_taken_for`, the most
        frequent in val first. Accuracies are in percent, empty for a class that val does not have.
    """
    trained = pd.DataFrame(pairs, columns=["verb", "noun", "count"])
    known = outcome[outcome["predicted"]]
    tables = []
    for task in TASKS:
        groups = known.groupby(task)
        table = pd.DataFrame(
            {
                "train_segments": trained.groupby(task)["count"].sum(),
                "val_segments": groups.size(),
                "top1": 100 * groups[f"{task}_at_1"].mean(),
                "top5": 100 * groups[f"{task}_at_5"].mean(),
            }
        )
        counts = ["train_segments", "val_segments"]
        table[counts] = table[counts].fillna(0).astype(int)
        wrong = known[known[task] != known[f"{task}_guess"]]
        mistaken = wrong.groupby(task)[f"{task}_guess"].agg(lambda guess: guess.mode().iloc[0])
        said = {class_id: names(task, int(guess)) for class_id, guess in mistaken.items()}
        table["often_taken_for"] = [said.get(class_id, "") for class_id in table.index]
        table.insert(0, "name", [names(task, class_id) for class_id in table.index])
        table = table.rename_axis("class_id").reset_index()
        table.insert(0, "task", task)
        tables.append(table.sort_values(counts[::-1], ascending=False, kind="stable"))
    return pd.concat(tables, ignore_index=True)


def confusion(outcome: pd.DataFrame, task: str, count: int) -> pd.DataFrame:
    """Count predicted segments by true class (rows) and guess (columns).

    Args:
        outcome: See `scoring.outcomes.outcomes`.
        task: `verb` or `noun`.
        count: How many of the most frequent true classes to show; column -1 counts other guesses.
    """
    known = outcome[outcome["predicted"]]
    frequent = known[task].value_counts().index[:count]
    rows = known[known[task].isin(frequent)]
    guess = rows[f"{task}_guess"].where(rows[f"{task}_guess"].isin(frequent), -1)
    table = pd.crosstab(rows[task], guess)
    return table.reindex(index=frequent, columns=[*frequent, -1], fill_value=0)


def plot_per_class(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw top-1 (bar) and top-5 (line) of the most frequent verbs and nouns of val.

    Args:
        table: See `by_class`.
        path: The picture to write.
    """
    frequent = {task: table[(table["task"] == task) & (table["val_segments"] > 0)]
                for task in TASKS}  # fmt: skip
    tested = pd.concat(list(frequent.values()))
    tested = tested[tested["val_segments"] >= ENOUGH]
    title = f"No verb or noun has {ENOUGH} readable segments in val"
    if len(tested):
        right = int((tested["top1"] > 0).sum())
        title = (
            f"{right} of {len(tested)} verbs and nouns with {ENOUGH} or more readable segments in "
            "val are right at least once"
        )
    hint = "Most frequent in val on top (segments in brackets). Bar: top-1. Line's end: top-5."
    slots = min(max(map(len, frequent.values())), TOP + 1)
    with drawing(path, title, hint, 2 * (0.8 + 0.2 * max(slots, 5))) as figure:
        for axes, task in zip(figure.subplots(2), TASKS, strict=True):
            part = frequent[task]
            top, others = part[:TOP], part[TOP:]
            columns = ["name", "val_segments", "top1", "top5"]
            rows = [
                (f"{short(name)} ({count:,})", top1, top5)
                for name, count, top1, top5 in top[columns].to_numpy().tolist()
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
            axes.set(xlim=(0, 102), xlabel="% of its readable segments", title=f"{task}s")


def plot_confusion(
    outcome: pd.DataFrame,
    names: ClassNames,
    path: str | os.PathLike,
) -> None:
    """Draw the confusion of the frequent verbs: true by guessed, in percent of the true class.

    Args:
        outcome: See `scoring.outcomes.outcomes`.
        names: Class names.
        path: The picture to write.
    """
    counts = confusion(outcome, "verb", SQUARE)
    title, hint = _finding(counts, names), ""
    if len(counts):
        hint = "Rows: the true verb. Columns: the guess, in percent of the row. Diagonal: right."
    with drawing(path, title, hint, 1.2 + 0.31 * max(len(counts), 3)) as figure:
        if counts.empty:
            say_nothing_to_show(figure, "no validation segment could be read")
            return
        axes = figure.subplots()
        percent = 100 * counts.div(counts.sum(axis=1), axis=0)
        for y, x in np.argwhere(percent.to_numpy() >= 0.5):
            value = percent.iloc[y, x]
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, color=BLUE, alpha=value / 100, lw=0))
            axes.text(x, y, f"{value:.0f}", ha="center", va="center",
                      color=WHITE if value > 55 else BLACK)  # fmt: skip
        rows = [
            f"{short(names('verb', verb), 11)} ({counts.loc[verb].sum():,})"
            for verb in counts.index
        ]
        columns = [short(names("verb", verb), 12) for verb in counts.index] + ["others"]
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(range(len(columns)), columns, rotation=50, ha="right",
                        rotation_mode="anchor")  # fmt: skip
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axes.grid(False)


def _finding(counts: pd.DataFrame, names: ClassNames) -> str:
    """Return the title: the most common mistake with its number, or that there is none."""
    if counts.empty:
        return "No readable segment"
    errors = counts.mask(np.eye(*counts.shape, dtype=bool), 0).drop(columns=-1)
    pair: Any = errors.stack().idxmax()
    true, guess = pair
    number = errors.loc[true, guess]
    if not number:
        return "No frequent verb is taken for another one of them"
    return (
        f"{names('verb', true)} is taken for {names('verb', guess)} in {number:,} of "
        f"{counts.loc[true].sum():,} segments, the most common mistake"
    )


def surest(outcome: pd.DataFrame, right: bool) -> pd.DataFrame:
    """Select the predicted segments with the highest confidence, at most one per true action.

    Args:
        outcome: See `scoring.outcomes.outcomes`.
        right: Whether to select correct or wrong guesses.
    """
    rows = outcome[outcome["predicted"] & (outcome["action_at_1"] == right)]
    rows = rows.sort_values("action_confidence", ascending=False, kind="stable")
    return rows.drop_duplicates(["verb", "noun"])[:EXAMPLES]


def at_random(outcome: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Draw predicted segments with equal chances, in the order of the list."""
    rows = outcome[outcome["predicted"]]
    return rows.sample(min(EXAMPLES, len(rows)), random_state=seed).sort_index()


def write_examples(
    groups: Mapping[str, pd.DataFrame],
    segments_path: str | os.PathLike,
    video_root: str | os.PathLike,
    index_dir: str | os.PathLike,
    names: ClassNames,
    out: str | os.PathLike,
) -> None:
    """Write six evenly spaced frames of each segment, with the true and the guessed action.

    Where a video is missing or does not decode, the reason is written in place of the picture.

    Args:
        groups: Rows of `outcomes`, by what they are examples of.
        segments_path: Clean list of the segments, in frames of the file.
        video_root: Folder of the videos.
        index_dir: Folder of the frame indexes; frames are read as in training.
        names: Class names.
        out: JSON: by group, a list of objects `narration_id truth truth_percent guess guess_percent
            right picture problem`; `picture` is a JPEG as a `data:` URL.

    Raises:
        DiskError: The disk fails under a video or its index.
    """
    segments = read_segments(segments_path).set_index("narration_id")
    examples: dict[str, list[dict[str, Any]]] = {group: [] for group in groups}
    for group, rows in groups.items():
        for row in rows.to_dict("records"):
            picture, problem = "", ""
            try:
                segment = segments.loc[row["narration_id"]].to_dict()
                picture = _data_url(_frames(segment, video_root, index_dir))
            except (DiskError, ProcessError):
                raise  # the same command may find the frames
            except EpicError as error:
                problem = str(error)
            guess = names("verb", row["verb_guess"]), names("noun", row["noun_guess"])
            examples[group].append({
                "narration_id": row["narration_id"],
                "truth": f"{names('verb', row['verb'])} {names('noun', row['noun'])}",
                "truth_percent": round(100 * row["action_truth_score"], 1),
                "guess": " ".join(guess),
                "guess_percent": round(100 * row["action_confidence"], 1),
                "right": bool(row["action_at_1"]),
                "picture": picture,
                "problem": problem,
            })  # fmt: skip
    write_text(out, json.dumps(examples, indent=1) + "\n")


def _frames(segment: Mapping, root: str | os.PathLike, index_dir: str | os.PathLike) -> np.ndarray:
    """Return frames in rows of `COLUMNS`, uint8 RGB.

    Raises:
        EpicError: A frame cannot be read.
        DiskError: The disk fails.
    """
    listed = Path(segment["path"])
    video = find_files([listed], root)[listed]
    if not video.is_file():
        raise EpicError(f"{video.name} is missing")
    wanted = np.linspace(segment["start"], segment["stop"] - 1, FRAMES).round().astype(int)
    with closing(VideoReader(video, find_index(index_dir, listed))) as reader:
        height, width = reader.size
        size = (round(height * WIDTH / width), WIDTH)
        frames = reader.get_frames(wanted.tolist(), size=size)
    framed = np.pad(frames, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows = [np.hstack(list(framed[i : i + COLUMNS])) for i in range(0, FRAMES, COLUMNS)]
    return np.vstack(rows)[:-GAP, :-GAP]


def _data_url(picture: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
