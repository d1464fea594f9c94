"""Predictions compared with the labels: what was guessed, how surely, and whether it is right."""

import numpy as np
import pandas as pd

from epic100.scoring.metrics import official_hits
from epic100.scoring.predictions import Predictions, complete_scores
from epic100.scoring.truth import Truth


def outcomes(predictions: Predictions, truth: Truth, reduce: str | None) -> pd.DataFrame:
    """Compare predictions with labels, one row per segment of val.

    Args:
        predictions: Predictions on val.
        truth: The split, whose order is kept.
        reduce: As for `predictions.chosen_way`.

    Returns:
        `narration_id participant verb noun`; `predicted` (False where the training prior is used);
        `verb_guess noun_guess` (top-1); `{verb,noun,action}_confidence` and
        `{verb,noun,action}_truth_score` (the probabilities of the guess and of the truth; an
        action's is verb times noun, as in the official score); and the hits of `official_hits`.

    Raises:
        EpicError: As for `complete_scores`.
    """
    verb, noun, predicted = (
        part.numpy() for part in complete_scores(predictions, truth.ids, reduce)
    )
    hits = official_hits(verb, noun, truth.verb, truth.noun)
    table = pd.DataFrame({
        "narration_id": truth.ids, "participant": truth.participants, "verb": truth.verb,
        "noun": truth.noun, "predicted": predicted,
    })  # fmt: skip
    for task, scores in (("verb", verb), ("noun", noun)):
        guess = scores.argmax(axis=1)
        table[f"{task}_guess"] = guess
        for name, classes in (("confidence", guess), ("truth_score", table[task].to_numpy())):
            chosen = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
            table[f"{task}_{name}"] = np.exp(chosen.astype(np.float64))
    for name in ("confidence", "truth_score"):
        table[f"action_{name}"] = table[f"verb_{name}"] * table[f"noun_{name}"]
    return table.assign(**hits)
