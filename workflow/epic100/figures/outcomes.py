"""Predictions on the validation segments compared with the labels, per segment and per class."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.scoring.metrics import official_hits
from epic100.scoring.predictions import Predictions, complete_scores
from epic100.segments.official_lists import TASKS, ClassNames
from epic100.segments.segment_list import read_segments


def outcomes(
    predictions: Predictions, segments_path: str | os.PathLike, reduce: str | None
) -> pd.DataFrame:
    """Compare predictions with labels, one row per segment of val.

    Args:
        predictions: Predictions on val.
        segments_path: results/segments/val.txt, whose order is kept.
        reduce: How pair scores are folded into verb and noun scores.

    Returns:
        `narration_id participant verb noun`; `predicted` (False where the training prior is used);
        `verb_guess noun_guess` (top-1); `confidence` and `truth_score` (the model's probabilities
        of the guessed and the true action, verb times noun as in the official metrics); and the
        hits of `official_hits`.
    """
    segments = read_segments(segments_path)
    scores = complete_scores(predictions, segments["narration_id"].tolist(), reduce)
    verb, noun, predicted = (tensor.numpy() for tensor in scores)
    table = segments[["narration_id", "verb", "noun"]].copy()
    table["participant"] = [Path(name).parent.name for name in segments["path"]]
    table["predicted"] = predicted
    rows = np.arange(len(table))
    guess = verb.argmax(axis=1), noun.argmax(axis=1)
    truth = table["verb"].to_numpy(), table["noun"].to_numpy()
    table["verb_guess"], table["noun_guess"] = guess
    table["confidence"] = np.exp(verb[rows, guess[0]] + noun[rows, guess[1]])
    table["truth_score"] = np.exp(verb[rows, truth[0]] + noun[rows, truth[1]])
    return table.assign(**official_hits(verb, noun, *truth))


def by_class(
    outcome: pd.DataFrame, pairs: Sequence[tuple[int, int, int]], names: ClassNames
) -> pd.DataFrame:
    """Compute the accuracy of every verb and noun of val or train, over predicted segments.

    Args:
        outcome: See `outcomes`.
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
        outcome: See `outcomes`.
        task: `verb` or `noun`.
        count: How many of the most frequent true classes to show; column -1 counts other guesses.
    """
    known = outcome[outcome["predicted"]]
    frequent = known[task].value_counts().index[:count]
    rows = known[known[task].isin(frequent)]
    guess = rows[f"{task}_guess"].where(rows[f"{task}_guess"].isin(frequent), -1)
    table = pd.crosstab(rows[task], guess)
    return table.reindex(index=frequent, columns=[*frequent, -1], fill_value=0)
