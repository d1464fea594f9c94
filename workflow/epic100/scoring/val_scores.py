"""Scores of val of any model, compared with the official CSV: for `epic100 score` and `compare`.

A file is a submission (`.zip`, or `.pt` or `.pkl` in a layout of C1-Action-Recognition, which
PySlowFast's fork for EPIC has too), predictions of a run, or what AVION stores with
`--pickle-filename`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epic100.base.errors import EpicError
from epic100.base.text_table import read_own_table
from epic100.data.official_lists import class_id
from epic100.scoring.metrics import officially_correct
from epic100.scoring.outcomes import LabelTable
from epic100.scoring.predictions import Predictions, checked_predictions, complete_scores
from epic100.scoring.published import own_actions
from epic100.scoring.submission_check import HINT, OUTPUTS, check
from epic100.scoring.submission_file import entries_of, existing_file, read_content, read_zip

# The accuracy of the model's own scores of actions has this name in metrics.json.
ACTION_HEAD = "action_head_accuracy_at_1"
# By this name, `read_correct` tells which segments have a prediction.
PREDICTED = "predicted"
PathLike = str | os.PathLike


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
        path: The file, of a type that the docstring of this module names.
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
    correct = officially_correct(verb, noun, labels.verb, labels.noun) | {
        PREDICTED: predicted.numpy()
    }
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
    as_floats = [entry | {key: entry[key].float() for key in OUTPUTS} for entry in entries]
    defects = [line for line in check(as_floats, labels.ids, *sizes) if not line.startswith(HINT)]
    if defects:
        raise EpicError(
            f"{path}: {'; '.join(defects)}; expected scores of every segment of split val, for the "
            "`classes:` in the config"
        )
    # Rows keep the file's order and dtype, since the official softmax goes over all rows and its
    # rounding depends on both.
    row_of_id = {name: row for row, name in enumerate(labels.ids)}
    rows = np.array([row_of_id[entry["narration_id"]] for entry in entries])
    verb, noun = (np.stack([entry[key].numpy() for entry in entries]) for key in OUTPUTS)
    correct = officially_correct(verb, noun, labels.verb[rows], labels.noun[rows])
    # The rows are in the order of the file. They are put into the order of `labels`.
    return {name: mask[np.argsort(rows)] for name, mask in correct.items()}


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
    columns = {"verb_class": class_id, "noun_class": class_id}
    about = f"the official train CSV with {', '.join(columns)}, whose pairs are classes of {path}"
    rows = read_own_table(train or "EPIC_100_train.csv", columns, about=about, delimiter=",")
    train_pairs = {(row["verb_class"], row["noun_class"]) for row in rows}
    pairs = sorted(train_pairs | set(labels.pairs()), key=lambda pair: "{}:{}".format(*pair))
    class_of_pair = {pair: number for number, pair in enumerate(pairs)}
    probs = torch.as_tensor(dump["probs"])
    if tuple(probs.shape) != (len(labels.ids), len(pairs)):
        raise EpicError(
            f"{path}: its probs have shape {list(probs.shape)}, expected "
            f"[{len(labels.ids)}, {len(pairs)}]: segments of val, pairs of train and val"
        )
    targets = torch.as_tensor(dump["targets"]).tolist()
    if targets != [class_of_pair[pair] for pair in labels.pairs()]:
        raise EpicError(
            f"{path}: its targets are not the classes of val in the CSV's order; expected the "
            "dump of a test on this CSV"
        )
    # AVION stores no training counts, and every segment has a prediction, so no prior is needed.
    pairs_with_counts = [(verb, noun, 0) for verb, noun in pairs]
    num_verbs, num_nouns = sizes
    return Predictions(
        split="val",
        narration_ids=labels.ids,
        log_probs=probs.double().clamp_min(torch.finfo(torch.float32).tiny).log().float(),
        pairs=pairs_with_counts,
        num_verbs=num_verbs,
        num_nouns=num_nouns,
        trained_on={},
    )
