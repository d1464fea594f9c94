"""The true classes of val, and which segments a model has right.

The scores are a run's predictions, or a file from elsewhere for `epic100 score` and `compare`: a
submission (`.zip`, or `.pt` or `.pkl` in a layout of C1-Action-Recognition, which PySlowFast's fork
for EPIC has too), or what AVION stores with `--pickle-filename`.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from epic100.base.errors import EpicError
from epic100.base.text_table import read_own_table
from epic100.data.official_lists import class_id, read_lists
from epic100.data.segment_list import read_segments
from epic100.scoring.metrics import group_members, officially_correct
from epic100.scoring.predictions import Predictions, checked_predictions, complete_scores, rows_of
from epic100.scoring.submission import HINT, check
from epic100.scoring.submission_file import (
    OUTPUTS,
    entries_of,
    existing_file,
    read_content,
    read_zip,
)

PathLike = str | os.PathLike
# The accuracy of the model's own scores of actions has this name in metrics.json.
ACTION_HEAD = "action_head_accuracy_at_1"
# By this name, `read_correct` tells which segments have a prediction.
PREDICTED = "predicted"

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

    def rows_in(self, pairs: Iterable[tuple[int, ...]]) -> npt.NDArray[np.intp]:
        """Find the row of each segment's true pair in a table of pairs, [N]; -1: it is not there.

        Args:
            pairs: Rows that begin with a verb and a noun; each pair is there once.
        """
        table = pd.MultiIndex.from_tuples([pair[:2] for pair in pairs])
        return table.get_indexer(pd.MultiIndex.from_arrays([self.verb, self.noun]))


def read_labels(path: PathLike, lists: Mapping[str, str]) -> LabelTable:
    """Read the segments of val with their true classes.

    Args:
        path: The official CSV, or results/segments/val.txt.
        lists: Paths by the keys of `official_lists.LISTS`. A group without its list is empty.

    Raises:
        EpicError: A file has another form, or no segment.
    """
    if Path(path).suffix == ".csv":
        about = f"an official EPIC-KITCHENS-100 CSV with the columns {', '.join(CSV_COLUMNS)}"
        rows = read_own_table(path, CSV_COLUMNS, about=about, delimiter=",")
        segments = pd.DataFrame(rows, columns=list(CSV_COLUMNS)).rename(columns=LIST_NAMES)
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

    # A group of segments without its list is empty.
    verb, noun = segments["verb"].to_numpy(), segments["noun"].to_numpy()
    return LabelTable(
        ids=segments["narration_id"].tolist(),
        verb=verb,
        noun=noun,
        participants=participants,
        videos=pd.factorize(segments["path"], sort=True)[0],
        members=group_members(verb, noun, participants, **read_lists(lists)),
    )


def outcomes(predictions: Predictions, labels: LabelTable, reduce: str | None) -> pd.DataFrame:
    """Compare predictions with labels in a table that has one row per segment of val.

    Args:
        predictions: Predictions on val.
        labels: The segments of val, whose order is kept.
        reduce: As for `predictions.reduction_method`.

    Returns:
        `narration_id participant verb noun`; `predicted` (False where the training prior is used);
        `verb_guess noun_guess` (top-1); `{verb,noun,action}_confidence` and
        `{verb,noun,action}_label_score` (the probabilities of the guess and of the true class; an
        action's is verb times noun, as in the official score); and the columns of
        `officially_correct`.

    Raises:
        EpicError: As for `complete_scores`.
    """
    verb_scores, noun_scores, predicted = complete_scores(predictions, labels.ids, reduce)
    correct = officially_correct(verb_scores, noun_scores, labels.verb, labels.noun)
    table = pd.DataFrame(
        {
            "narration_id": labels.ids,
            "participant": labels.participants,
            "verb": labels.verb,
            "noun": labels.noun,
            "predicted": predicted.numpy(),
        }
    )
    every_segment = np.arange(len(table))
    for task, scores in (("verb", verb_scores.numpy()), ("noun", noun_scores.numpy())):
        # The scores are log-probabilities [N, classes].
        guess = scores.argmax(axis=1)
        label = table[task].to_numpy()
        table[f"{task}_guess"] = guess
        table[f"{task}_confidence"] = np.exp(scores[every_segment, guess].astype(np.float64))
        table[f"{task}_label_score"] = np.exp(scores[every_segment, label].astype(np.float64))
    table["action_confidence"] = table["verb_confidence"] * table["noun_confidence"]
    table["action_label_score"] = table["verb_label_score"] * table["noun_label_score"]
    return table.assign(**correct)


def own_actions(predictions: Predictions, labels: LabelTable) -> npt.NDArray[np.bool_]:
    """Decide for each segment of val whether the pair head's best pair is the true one, bool [N].

    A segment without a prediction gets the most frequent pair of training.
    """
    counts = predictions.pair_table[:, 2].numpy()
    guesses = np.full(len(labels.ids), counts.argmax())
    rows = rows_of(predictions.narration_ids, labels.ids)
    guesses[rows] = predictions.log_probs.argmax(1).numpy()
    return guesses == labels.rows_in(predictions.pairs)


def read_correct(
    path: PathLike,
    labels: LabelTable,
    *,
    reduce: str | None,
    sizes: tuple[int, int],
    train: PathLike | None = None,
) -> dict[str, np.ndarray]:
    """Read a file of scores of val, and decide by the official rules which segments are right.

    Args:
        path: Predictions of a run, or a file that the docstring of this module names.
        labels: The segments of val with their labels.
        reduce: As for `predictions.reduction_method`, for scores of actions.
        sizes: Numbers of verbs and nouns.
        train: The official train CSV, whose actions are classes of AVION's scores.

    Returns:
        Which segments are right, bool [N], by `{verb,noun,action}_at_{1,5}`, and by `ACTION_HEAD`
        if the model has scores of actions. By `PREDICTED`, which segments have a prediction rather
        than the training prior, if the file tells.

    Raises:
        EpicError: The file is of another type or split, or it lacks segments.
    """
    path = existing_file(path)
    if path.suffix.lower() == ".zip":
        return _correct_of_entries(read_zip(path), path, labels, sizes)
    content = read_content(path)
    if isinstance(content, dict) and "format" in content:
        predictions = checked_predictions(content, path, "val")
    elif isinstance(content, dict) and {"probs", "targets"} <= content.keys():
        predictions = _avion_predictions(content, path, labels, sizes, train)
    else:
        return _correct_of_entries(entries_of(content, path), path, labels, sizes)
    verb, noun, predicted = complete_scores(predictions, labels.ids, reduce)
    correct = officially_correct(verb, noun, labels.verb, labels.noun)
    correct[PREDICTED] = predicted.numpy()
    if predictions.pair_head:
        correct[ACTION_HEAD] = own_actions(predictions, labels)
    return correct


def _correct_of_entries(
    entries: list[dict], path: Path, labels: LabelTable, sizes: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Decide which segments are right, bool [N] in the order of `labels`, by submitted entries.

    Raises:
        EpicError: The entries are not complete or not of these classes.
    """
    # Files of other programs may have float16 or float64, which `check` would reject.
    verb_key, noun_key = OUTPUTS
    as_floats = []
    for entry in entries:
        floats = {verb_key: entry[verb_key].float(), noun_key: entry[noun_key].float()}
        as_floats.append(entry | floats)
    lines = check(as_floats, labels.ids, *sizes)
    defects = [line for line in lines if not line.startswith(HINT)]
    if defects:
        raise EpicError(
            f"{path}: {'; '.join(defects)}; expected scores of every segment of split val, for the "
            "`classes:` in the config"
        )
    # Rows keep the file's order and dtype, since the official softmax goes over all rows and its
    # rounding depends on both.
    rows = rows_of([entry["narration_id"] for entry in entries], labels.ids).numpy()
    verb = torch.stack([entry[verb_key] for entry in entries])
    noun = torch.stack([entry[noun_key] for entry in entries])
    correct = officially_correct(verb, noun, labels.verb[rows], labels.noun[rows])
    # From the order of the file into the order of `labels`.
    order = np.argsort(rows)
    return {name: mask[order] for name, mask in correct.items()}


def _avion_predictions(
    dump: Mapping[str, Any],
    path: Path,
    labels: LabelTable,
    sizes: tuple[int, int],
    train: PathLike | None,
) -> Predictions:
    """Turn the probabilities of actions that AVION stores into predictions.

    AVION stores no ids: its rows are in the order of the validation CSV. The true classes in the
    dump (`targets`) prove this. A class, which is a number of an output, stands for a (verb, noun)
    pair of train or val; the pairs are sorted as texts `verb:noun`.

    Source: zhaoyue-zephyrus/AVION at 31b00b6, scripts/main_lavila_finetune_cls.py:585 and
    avion/utils/misc.py:43.
    """
    # The pair of each class.
    columns = {"verb_class": class_id, "noun_class": class_id}
    about = f"the official train CSV with {', '.join(columns)}, whose pairs are classes of {path}"
    rows = read_own_table(train or "EPIC_100_train.csv", columns, about=about, delimiter=",")
    pairs = {(row["verb_class"], row["noun_class"]) for row in rows}
    pairs.update(zip(labels.verb.tolist(), labels.noun.tolist(), strict=True))
    pair_of_class = sorted(pairs, key=lambda pair: f"{pair[0]}:{pair[1]}")

    # The scores, and the classes that prove the order of the rows.
    probs = torch.as_tensor(dump["probs"])
    if tuple(probs.shape) != (len(labels.ids), len(pair_of_class)):
        raise EpicError(
            f"{path}: its probs have shape {list(probs.shape)}, expected "
            f"[{len(labels.ids)}, {len(pair_of_class)}]: segments of val, pairs of train and val"
        )
    targets = torch.as_tensor(dump["targets"]).tolist()
    if targets != labels.rows_in(pair_of_class).tolist():
        raise EpicError(
            f"{path}: its targets are not the classes of val in the CSV's order; expected the "
            "dump of a test on this CSV"
        )
    num_verbs, num_nouns = sizes
    return Predictions(
        split="val",
        narration_ids=labels.ids,
        log_probs=probs.double().clamp_min(torch.finfo(torch.float32).tiny).log().float(),
        # AVION stores no training counts. Every segment has a prediction, so no prior is needed.
        pairs=[(verb, noun, 0) for verb, noun in pair_of_class],
        num_verbs=num_verbs,
        num_nouns=num_nouns,
        trained_on={},
    )
