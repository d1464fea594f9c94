"""A run's guesses: each segment's best classes, and whether the official top-5 has the truth."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.scoring.metrics import official_hits, percent
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.segments.official_lists import TASKS

PathLike = str | os.PathLike

BEST = 5  # guesses of a segment
PREDICTED = "val"  # the split whose predictions are shown
UNIT = 10_000  # probabilities are whole numbers of 1 / UNIT


@dataclass(frozen=True)
class ShownRun:
    """A run that the page shows.

    Attributes:
        name: Its name; "" for the only run of a page, if that is the default run.
        predictions: Its predictions of split val.
        home: The folder of its results.
        reduce: As for `predictions.complete_scores`.
        timelines: Its tables `{video_id}.tsv` of `epic100.timeline`.
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
    """Name the runs of a page and what each is shown with.

    Args:
        names: Their names.
        homes: The folders of their results.
        own: Whether a run is of this config. Another run is shown with the figures that it has.
        predictions: Their predictions of split val.
        timelines: The timelines of all of them.
        reduce: The config's `export: reduce:`.
    """
    runs = []
    for name, home, is_own, path in zip(names, homes, own, predictions, strict=True):
        way = reduce if is_own else json.loads(read_text(Path(home, "metrics.json")))["reduce"]
        tables = [table for table in timelines if Path(table).parents[1] == Path(home)]
        runs.append(ShownRun(name, path, home, way, tables))
    return runs


def read_guesses(run: ShownRun, table: pd.DataFrame, classes: Mapping[str, int]) -> dict[str, Any]:
    """Read the best classes of each predicted segment, ranked as the official evaluator ranks them.

    Args:
        run: The run.
        table: Segments of all splits, with `split`, `narration_id`, `verb` and `noun`.
        classes: Numbers of `verbs` and `nouns`.

    Returns:
        Columns over the segments of its column `segment`, places in `table`, as `content.gather`
        describes them; and `official`, top-1 action over all of val in percent.

    Raises:
        EpicError: The predictions are not of these segments or classes.
    """
    own = table[table["split"] == PREDICTED]
    predictions = read_predictions(run.predictions, PREDICTED)
    sizes = {"verbs": predictions.num_verbs, "nouns": predictions.num_nouns}
    if sizes != classes:
        raise EpicError(
            f"{run.predictions}: scores of {sizes['verbs']} verbs and {sizes['nouns']} nouns; "
            f"expected {classes['verbs']} and {classes['nouns']}, the `classes:` of the config; a "
            "page shows runs of the same classes"
        )
    ids = own["narration_id"].tolist()
    *scores, predicted = complete_scores(predictions, ids, run.reduce)
    hits = official_hits(*scores, *(own[task].to_numpy() for task in TASKS))
    kept = predicted.numpy()
    found: dict[str, Any] = {
        "official": percent(hits["action_at_1"]),
        "segment": own.index[kept].tolist(),
        "near": hits["action_at_5"][kept].astype(int).tolist(),
    }
    for task, score in zip(TASKS, scores, strict=True):
        rows = score.numpy()[kept]
        best = np.argsort(rows, axis=1)[:, ::-1][:, :BEST]
        chances = np.exp(np.take_along_axis(rows, best, axis=1))
        truth = own[task].to_numpy()[kept]
        found[task] = best.ravel().tolist()
        found[f"{task}_p"] = _whole(chances)
        found[f"{task}_truth_p"] = _whole(np.exp(rows[np.arange(len(rows)), truth]))
    return found


def _whole(chances: np.ndarray) -> list[int]:
    return (UNIT * chances).round().astype(int).ravel().tolist()
