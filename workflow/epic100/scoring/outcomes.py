"""The true classes of val, and a table that compares each prediction with them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from epic100.base.errors import EpicError
from epic100.base.text_table import read_own_table
from epic100.data.official_lists import LISTS, class_id, read_list
from epic100.data.segment_list import read_segments
from epic100.scoring.metrics import group_members, officially_correct
from epic100.scoring.predictions import Predictions, complete_scores

# These columns of an official CSV are read, each by a function that converts its text.
CSV_COLUMNS: dict[str, Callable[[str], Any]] = {
    "narration_id": str,
    "participant_id": str,
    "video_id": str,
    "verb_class": class_id,
    "noun_class": class_id,
}
# Columns of an official CSV get the names that they have in a segment list.
LIST_NAMES = {"verb_class": "verb", "noun_class": "noun", "video_id": "path"}


@dataclass(frozen=True)
class LabelTable:
    """All segments of val with their true classes.

    Attributes:
        ids: narration_ids, N of them.
        verb: True verbs [N].
        noun: True nouns [N].
        participants: Participants [N].
        videos: Number of each segment's video [N], from 0 on.
        members: The result of `metrics.group_members`: bool [N] by group, then by task.
    """

    ids: list[str]
    verb: npt.NDArray[np.int64]
    noun: npt.NDArray[np.int64]
    participants: list[str]
    videos: npt.NDArray[np.int64]
    members: dict[str, dict[str, np.ndarray]]

    @property
    def video_count(self) -> int:
        """Number of videos that have a segment."""
        return int(self.videos.max()) + 1

    def pairs(self) -> list[tuple[int, int]]:
        """Return the true (verb, noun) of each segment."""
        return list(zip(self.verb.tolist(), self.noun.tolist(), strict=True))


def read_labels(path: str | os.PathLike, lists: Mapping[str, str]) -> LabelTable:
    """Read the segments of val with their true classes.

    Args:
        path: The official CSV, or results/segments/val.txt.
        lists: Paths by the keys of `official_lists.LISTS`. A group without its list is empty.

    Raises:
        EpicError: A file has another form, or no segment.
    """
    if Path(path).suffix == ".csv":
        rows = read_own_table(
            path,
            CSV_COLUMNS,
            about=f"an official EPIC-KITCHENS-100 CSV with the columns {', '.join(CSV_COLUMNS)}",
            delimiter=",",
        )
        segments = pd.DataFrame(rows, columns=[*CSV_COLUMNS]).rename(columns=LIST_NAMES)
        participants = segments["participant_id"].tolist()
    else:
        segments = read_segments(path)
        # A path of the list is `P01/P01_11.MP4`; its folder is the participant.
        participants = [Path(name).parent.name for name in segments["path"]]
    if not len(segments):
        raise EpicError(f"{path}: no segment in it; expected the segments of split val")
    is_duplicate = segments["narration_id"].duplicated()
    if is_duplicate.any():
        name = segments["narration_id"][is_duplicate].iloc[0]
        raise EpicError(f"{path}: has the narration_id {name!r} more than once; expected each once")
    verb, noun = segments["verb"].to_numpy(), segments["noun"].to_numpy()
    groups = {key: read_list(lists[key], key) if key in lists else [] for key in LISTS}
    _, videos = np.unique(segments["path"].to_numpy(dtype=str), return_inverse=True)
    members = group_members(verb, noun, participants, **groups)
    return LabelTable(segments["narration_id"].tolist(), verb, noun, participants, videos, members)


def outcomes(predictions: Predictions, labels: LabelTable, reduce: str | None) -> pd.DataFrame:
    """Compare predictions with labels in a table that has one row per segment of val.

    Args:
        predictions: Predictions on val.
        labels: The segments of val, whose order is kept.
        reduce: As for `predictions.reduction_method`.

    Returns:
        `narration_id participant verb noun`; `predicted` (False where the training prior is used);
        `verb_guess noun_guess` (top-1); `{verb,noun,action}_confidence` and
        `{verb,noun,action}_truth_score` (the probabilities of the guess and of the true class; an
        action's is verb times noun, as in the official score); and the columns of
        `officially_correct`.

    Raises:
        EpicError: As for `complete_scores`.
    """
    verb, noun, predicted = (
        tensor.numpy() for tensor in complete_scores(predictions, labels.ids, reduce)
    )
    correct = officially_correct(verb, noun, labels.verb, labels.noun)
    table = pd.DataFrame(
        {
            "narration_id": labels.ids,
            "participant": labels.participants,
            "verb": labels.verb,
            "noun": labels.noun,
            "predicted": predicted,
        }
    )
    for task, scores in (("verb", verb), ("noun", noun)):
        guess = scores.argmax(axis=1)
        table[f"{task}_guess"] = guess
        # The confidence is the score of the guess, the label score is the score of the true class.
        for name, classes in (("confidence", guess), ("label_score", table[task].to_numpy())):
            log_probs = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
            table[f"{task}_{name}"] = np.exp(log_probs.astype(np.float64))
    for name in ("confidence", "label_score"):
        table[f"action_{name}"] = table[f"verb_{name}"] * table[f"noun_{name}"]
    return table.assign(**correct)
