"""The data of the page: segments, guesses of runs and videos, as columns, and class names.

A run's guesses are each segment's best classes, and whether the official top-5 has its label.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.atomic import links
from epic100.base.disk import read_json
from epic100.base.errors import EpicError, printable
from epic100.base.text_table import read_own_table, read_table
from epic100.data.annotations import load_splits
from epic100.data.official_lists import DATA_SET, LISTS, TASKS, read_class_names, read_lists
from epic100.data.segment_list import read_dropped, reason_type
from epic100.scoring.metrics import officially_correct, percent
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.video.scan_table import DAMAGED, OK, ScanRow, read_scan_table
from epic100.video.sheet import Video, find_files

PathLike = str | os.PathLike

# The page has at most five guesses for the verb of a segment, and for its noun.
BEST = 5
# The page shows the predictions of this split.
PREDICTED = "val"
# Probabilities are whole numbers of 1 / UNIT.
UNIT = 10_000


LICENSE = "CC BY-NC 4.0, University of Bristol"
NOT_SCANNED = "not scanned"
VIDEO_COLUMNS = ["id", "participant", "seconds", "state", "why", "damaged", "file"]


@dataclass(frozen=True)
class ShownRun:
    """A run that the page shows, and where its results are.

    Attributes:
        name: The run's name; "" for the only run of a page, if that is the default run.
        predictions: The run's predictions of split val.
        home: The folder of the run's results.
        reduce: How pair scores are folded, as for `predictions.complete_scores`.
        timelines: The run's tables `{video_id}.tsv` of `prediction.timeline`.
    """

    name: str
    predictions: PathLike
    home: str = "results"
    reduce: str | None = None
    timelines: Sequence[PathLike] = ()


def shown_runs(
    names: Sequence[str],
    homes: Sequence[str],
    own: Sequence[bool],
    predictions: Sequence[str],
    timelines: Sequence[str],
    reduce: str | None,
) -> list[ShownRun]:
    """Collect the files and settings of each run; the lists are in the order of the runs.

    Args:
        names: The names of the runs.
        homes: The folders of the runs' results.
        own: Whether each run is of this config. The scores of any other run are folded as its
            metrics.json says.
        predictions: The runs' predictions of split val.
        timelines: The timelines of all runs together.
        reduce: The config's `export: reduce:`.
    """
    runs = []
    for number, home in enumerate(homes):
        run_reduce = reduce
        if not own[number]:
            run_reduce = read_json(Path(home, "metrics.json"))["reduce"]
        # A timeline is in a folder of the run's folder, such as results/timeline/P01_01.tsv.
        tables = [table for table in timelines if Path(table).parent.parent == Path(home)]
        runs.append(ShownRun(names[number], predictions[number], home, run_reduce, tables))
    return runs


def read_guesses(run: ShownRun, table: pd.DataFrame, classes: Mapping[str, int]) -> dict[str, Any]:
    """Read the best classes of each predicted segment, ranked as the official evaluator ranks them.

    Args:
        run: The run whose predictions are read.
        table: Segments of all splits, with `split`, `narration_id`, `verb` and `noun`.
        classes: Numbers of `verbs` and `nouns`.

    Returns:
        Columns over the N predicted segments: `segment`, their row numbers in `table`; `right` and
        `near`, whether the action is the best guess, or among the best five; `verb` and `noun`, the
        ids of the `BEST` classes of each segment, one segment after another; `{task}_p`, their
        probabilities (see `_probabilities`); `{task}_truth_p`, those of the true classes. And
        `official`, top-1 action over all of val in percent.

    Raises:
        EpicError: The predictions are not of these segments or classes.
    """
    segments = table[table["split"] == PREDICTED]
    predictions = read_predictions(run.predictions, PREDICTED)
    sizes = {"verbs": predictions.num_verbs, "nouns": predictions.num_nouns}
    if sizes != classes:
        raise EpicError(
            f"{run.predictions}: scores of {sizes['verbs']} verbs and {sizes['nouns']} nouns; "
            f"expected {classes['verbs']} and {classes['nouns']}, the `classes:` of the config; a "
            "page shows runs of the same classes"
        )
    verb, noun, predicted = complete_scores(
        predictions, segments["narration_id"].tolist(), run.reduce
    )
    hits = officially_correct(verb, noun, segments["verb"].to_numpy(), segments["noun"].to_numpy())
    is_predicted = predicted.numpy()
    columns: dict[str, Any] = {
        "official": percent(hits["action_at_1"]),
        "segment": segments.index[is_predicted].tolist(),
        "right": hits["action_at_1"][is_predicted].astype(int).tolist(),
        "near": hits["action_at_5"][is_predicted].astype(int).tolist(),
    }
    for task, scores in (("verb", verb), ("noun", noun)):
        # The scores are log-probabilities, float32 [predicted segments, classes].
        log_probs = scores.numpy()[is_predicted]
        best = np.argsort(log_probs, axis=1)[:, ::-1][:, :BEST]
        labels = segments[task].to_numpy()[is_predicted][:, None]
        columns[task] = best.ravel().tolist()
        columns[f"{task}_p"] = _probabilities(log_probs, best)
        columns[f"{task}_truth_p"] = _probabilities(log_probs, labels)
    return columns


def _probabilities(log_probs: np.ndarray, classes: np.ndarray) -> list[int]:
    """Write the probabilities of some classes of each segment, e.g. 0.25 as 2500 (`UNIT`).

    Args:
        log_probs: [N, all classes].
        classes: The class ids of each segment, int64 [N, C].

    Returns:
        N x C numbers, the first segment's first.
    """
    chosen = np.take_along_axis(log_probs, classes, axis=1)
    return (UNIT * np.exp(chosen)).round().astype(int).ravel().tolist()


def gather(
    videos: Mapping[str, Video],
    *,
    page: PathLike,
    root: PathLike,
    annotations: Mapping[str, PathLike],
    runs: Sequence[ShownRun],
    dropped: PathLike,
    scans: Sequence[PathLike],
    name_csvs: Sequence[PathLike],
    lists: Mapping[str, str],
    data: str = DATA_SET,
    call: str = "epic100 run",
    **reading: Any,
) -> dict[str, Any]:
    """Collect the data of the page: segments, runs with their guesses, videos and class names.

    Args:
        videos: Rows of the video sheet by video_id.
        page: The page to write, for links to other files.
        root: Where the whole videos are, as for `find_files`.
        annotations: CSV of each split to show, by its name; `val` is one of them.
        runs: One run, or two to compare.
        dropped: results/clean/dropped.tsv.
        scans: Scan tables.
        name_csvs: CSVs that classes without a list are named after.
        lists: Paths by the keys of `official_lists.LISTS` and `CLASS_LISTS`.
        data: What the annotations are called.
        call: The command of this run with its options, to which the page adds targets.
        **reading: Passed to `read_annotations`: `classes` and `subset`.

    Returns:
        Plain lists and numbers, for `data.js`:

        - `verbs`, `nouns`: names by class id.
        - `tail_verbs`, `tail_nouns`, `unseen`: the official lists.
        - `segments`: columns over all splits, in the order of the CSVs. Times are in seconds from
            the video's first frame. `split`, `video` and `reason` are places in `splits`, `videos`
            and `reasons` (-1: kept). The class -1 is unknown.
        - `runs`, of each run:
            - `name`.
            - `official`: top-1 action over all of val in percent, as in metrics.json.
            - `segment`: the segments with a prediction. The other columns are over these.
            - `verb`, `noun`: the `best` most probable classes, most probable first.
            - `verb_p`, `noun_p`: their probabilities, in 1 / `unit`.
            - `verb_truth_p`, `noun_truth_p`: the probabilities of the label, in 1 / `unit`.
            - `right`, `near`: 1 where the true action is the official top-1; in the top-5.
            - `timelines`: for each video rows [start, stop, verb, noun, probability], or null.
        - `videos`: columns. `damaged` has [start, stop] in seconds, and `file` the address of the
            whole video, or null.
        - `pages`: the addresses of other pages, by what they show.

    Raises:
        EpicError: A file is wrong, or the predictions are not of these segments.
    """
    # Class names, and the official lists. A list that the run does not have is empty.
    classes = reading["classes"]
    official = read_lists(lists)
    class_lists = {key: path for key, path in lists.items() if key not in LISTS}
    names = read_class_names(name_csvs, class_lists)

    # The segments. Their splits, videos and reasons are numbers; kept segments have the reason -1.
    table = _segments(annotations, dropped, videos, reading)
    splits = list(annotations)
    video_numbers, video_ids = pd.factorize(table["video_id"])
    reason_numbers, reasons = pd.factorize(table["reason"].mask(table["reason"] == ""))
    segments = {
        "id": table["narration_id"].tolist(),
        "split": table["split"].map(splits.index).tolist(),
        "video": video_numbers.tolist(),
        "start": table["start_seconds"].round(2).tolist(),
        "stop": table["stop_seconds"].round(2).tolist(),
        "verb": table["verb"].tolist(),
        "noun": table["noun"].tolist(),
        "said": table["narration"].map(printable).tolist(),
        "reason": reason_numbers.tolist(),
    }

    # The runs.
    columns_of_runs = []
    for run in runs:
        columns = {"name": run.name, **read_guesses(run, table, classes)}
        columns["timelines"] = _timelines(run.timelines, video_ids)
        columns_of_runs.append(columns)
    return {
        "data": data,
        "call": call,
        "license": LICENSE if data == DATA_SET else "",
        "unit": UNIT,
        "best": {task: min(BEST, classes[f"{task}s"]) for task in TASKS},
        "splits": splits,
        "verbs": [names("verb", class_id) for class_id in range(classes["verbs"])],
        "nouns": [names("noun", class_id) for class_id in range(classes["nouns"])],
        "tail_verbs": official["tail_verbs"],
        "tail_nouns": official["tail_nouns"],
        "unseen": official["unseen_participants"],
        "reasons": [
            {"text": printable(text), "kind": printable(reason_type(text))} for text in reasons
        ],
        "segments": segments,
        "runs": columns_of_runs,
        "videos": _videos([videos[video_id] for video_id in video_ids], scans, table, page, root),
        "pages": _pages(page, runs),
    }


def _segments(
    annotations: Mapping[str, PathLike],
    dropped: PathLike,
    videos: Mapping[str, Video],
    load_options: Mapping[str, Any],
) -> pd.DataFrame:
    """Read the annotations of all splits, with the columns `split`, `narration` and `reason`.

    The `reason` is why a segment was dropped, or "".
    """
    drop_reasons = {
        (row["split"], row["narration_id"]): row["reason"] for row in read_dropped(dropped)
    }
    narrations: dict[tuple[str, str], str] = {}
    # The official CSV of the test split has no narrations.
    for split, path in annotations.items():
        for _, row in read_table(path, ("narration_id",), about="an official CSV", delimiter=","):
            narrations[split, row["narration_id"]] = row.get("narration", "")
    table = load_splits(annotations, videos, **load_options)
    keys = list(zip(table["split"], table["narration_id"], strict=True))
    return table.assign(
        narration=[narrations.get(key, "") for key in keys],
        reason=[drop_reasons.get(key, "") for key in keys],
    )


def _videos(
    shown: Sequence[Video],
    scans: Sequence[PathLike],
    table: pd.DataFrame,
    page: PathLike,
    root: PathLike,
) -> dict[Any, list[Any]]:
    """Make columns over the videos: length, state, damaged stretches, link to the whole video.

    Args:
        shown: The videos, in the order of the columns.
        scans: Scan tables.
        table: Segments of all splits, with `video_id` and `stop_seconds`.
        page: The page to write; links are relative to its folder.
        root: Where the whole videos are, as for `find_files`.
    """
    scan_rows = {}
    for path in scans:
        scan_rows.update({row.video_id: row for row in read_scan_table(path)})
    last_stops = table.groupby("video_id")["stop_seconds"].max()
    files = links(page, find_files([video.path() for video in shown], root))
    rows = []
    for video in shown:
        row = scan_rows.get(video.video_id, ScanRow(video.video_id, NOT_SCANNED))
        length = row.pictures / row.fps if row.fps else video.duration
        # A segment may stop after the end of a truncated file, and the page must have room for it.
        seconds = round(max(length, last_stops[video.video_id]), 2)
        remarks = [text for text in (row.reason, row.finding, row.caution) if text]
        rows.append(
            {
                "id": video.video_id,
                "participant": video.participant_id,
                "seconds": seconds,
                "state": row.status,
                "why": printable("; ".join(remarks)),
                "damaged": _damaged_seconds(row, seconds),
                "file": files.get(video.path()),
            }
        )
    return pd.DataFrame(rows, columns=VIDEO_COLUMNS).to_dict("list")


def _damaged_seconds(row: ScanRow, seconds: float) -> list[list[float]]:
    """Return [start, stop] of each damaged stretch of a video of this length."""
    if row.status in (OK, NOT_SCANNED):
        return []
    if row.status == DAMAGED and row.fps:
        return (np.reshape(row.damaged, (-1, 2)) / row.fps).round(2).tolist()
    # Without the ranges of a scan, the whole of a bad video counts as damaged.
    return [[0.0, seconds]]


def _pages(page: PathLike, runs: Sequence[ShownRun]) -> dict[str, str]:
    """Return the addresses of the other pages of the runs that exist, by what they show."""
    files = {}
    for run in runs:
        of_run = f" of {run.name}" if len(runs) > 1 else ""
        files[f"report{of_run}"] = Path(run.home, "report.html")
        files[f"model card{of_run}"] = Path(run.home, "model_card.md")
    return links(page, files | {"all runs": Path("results/compare.html")})


def _timelines(tables: Sequence[PathLike], videos: Iterable[str]) -> list[list[list[float]] | None]:
    """Read the timeline of each video, in order of the videos; None for a video without one.

    A timeline has a row [start, stop, verb, noun, probability] for each action.
    """
    parsers: dict[str, Callable[[str], Any]] = {
        "what": str,
        "start": float,
        "stop": float,
        # A damaged stretch has none of these three.
        "verb": lambda text: int(text or -1),
        "noun": lambda text: int(text or -1),
        "probability": lambda text: float(text or 0),
    }
    action_columns = ["start", "stop", "verb", "noun", "probability"]
    path_of_video = {Path(path).stem: path for path in tables}
    timelines: list[list[list[float]] | None] = []
    for name in videos:
        path = path_of_video.get(name)
        if path is None:
            timelines.append(None)
            continue
        about = f"a timeline of the rule timeline; make it again with `snakemake -R {path}`"
        actions = []
        for row in read_own_table(path, parsers, about=about):
            if row["what"] == "action":
                actions.append([row[column] for column in action_columns])
        timelines.append(actions)
    return timelines
