"""Writes metrics.json: the official metrics on the validation split, and related figures."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epic100.base.atomic import write_text
from epic100.scoring.completion import chosen_way, complete_ways, ways_of
from epic100.scoring.diagnostics import diagnose
from epic100.scoring.metrics import group_accuracies, official_hits
from epic100.scoring.predictions import Predictions, read_predictions
from epic100.segments.official_lists import LISTS, read_list
from epic100.segments.segment_list import read_segments

log = logging.getLogger(__name__)


def evaluate(
    predictions_path: str | os.PathLike,
    segments_path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    lists: dict[str, str],
    reduce: str | None,
    clean: str | os.PathLike | None = None,
    model: str | os.PathLike | Sequence[str] | None = None,
) -> dict:
    """Write the official metrics of split val, in percent.

    The keys besides the official names are:

    - `readable_*`: the same over the segments with a prediction;
    - `segments`, `predicted`: numbers of segments, and of those with a prediction;
    - `by_reduce`: overall figures for each way to fold pairs;
    - `beyond_train`: number of segments with a pair that is not in training;
    - `action_head_accuracy_at_1`: top-1 of the pair head alone over the predicted segments, as
      LaViLa and AVION report it; null without a pair head. The leaderboard's figure,
      `overall_action_accuracy_at_1`, multiplies verb and noun scores;
    - `diagnostics`: the result of `diagnostics.diagnose`;
    - `trained_on`: as in the model.

    Args:
        predictions_path: Predictions of split val.
        segments_path: The segment list of split val, with labels.
        out: The JSON file to write.
        lists: Paths by the keys of `official_lists.LISTS`. Without its list, a figure is null.
        reduce: As for `completion.chosen_way`.
        clean: The clean list that the predictions must be made from; None: not checked.
        model: The model or models that the predictions must be made with; None: not checked.

    Returns:
        The content of `out`.

    Raises:
        EpicError: An input is wrong, or the predictions are of other segments or another model.
    """
    predictions = read_predictions(predictions_path, "val", model=model, clean=clean)
    reduce = chosen_way(predictions, reduce)
    segments = read_segments(segments_path)
    groups = {key: read_list(lists[key], key) if key in lists else [] for key in LISTS}
    truth = verb_true, noun_true = (segments["verb"].to_numpy(), segments["noun"].to_numpy())
    participants = [Path(name).parent.name for name in segments["path"]]
    ids = segments["narration_id"].tolist()
    beyond = ~_in_train(predictions, *truth)

    by_reduce: dict[str, dict] = {}
    figures: dict[str, Any] = {}
    ways = ways_of(predictions)
    scores, predicted = complete_ways(predictions, ids, ways)
    for way, (verb, noun) in zip(ways, scores, strict=True):
        hits = official_hits(verb, noun, *truth)
        found = group_accuracies(hits, verb_true, noun_true, participants, **groups)
        found |= _readable(hits, predicted.numpy(), beyond)
        shown = {k: v for k, v in found.items() if k.startswith(("overall", "readable", "beyond"))}
        by_reduce[way] = shown
        if way == reduce:
            figures = found | {"diagnostics": diagnose(verb, noun, *truth, participants)}
    figures |= {
        "reduce": reduce,
        "segments": len(segments),
        "predicted": int(predicted.sum()),
        "beyond_train": int(beyond.sum()),
        "by_reduce": by_reduce,
        "action_head_accuracy_at_1": _action_head(predictions, ids, *truth),
        "trained_on": predictions.trained_on,
    }
    if predictions.trained_on.get("split") == "trainval":
        log.warning(
            "the model learned from val (`train: split: trainval`): these figures say how well it "
            "remembers, not how good it is"
        )
    write_text(out, json.dumps(figures, indent=2) + "\n")
    return figures


def _action_head(
    predictions: Predictions, ids: list[str], verb: np.ndarray, noun: np.ndarray
) -> float | None:
    """Return the pair head's top-1 over the predicted segments, in percent."""
    if not predictions.pair_head:
        return None
    truth = dict(zip(ids, zip(verb.tolist(), noun.tolist(), strict=True), strict=True))
    best = predictions.log_probs.argmax(dim=1).tolist()
    said = [tuple(predictions.pairs[index][:2]) for index in best]
    asked = [truth[name] for name in predictions.narration_ids]
    return _percent(np.array([a == b for a, b in zip(said, asked, strict=True)], dtype=bool))


def _in_train(predictions: Predictions, verb: np.ndarray, noun: np.ndarray) -> np.ndarray:
    """Return whether each (verb, noun) is in the pair table, bool [N]."""
    known = {tuple(pair[:2]) for pair in predictions.pairs}
    found = zip(verb.tolist(), noun.tolist(), strict=True)
    return np.array([pair in known for pair in found], dtype=bool)


def _readable(
    hits: dict[str, np.ndarray], predicted: np.ndarray, beyond: np.ndarray
) -> dict[str, float | None]:
    """Return accuracies over predicted segments, and top-1 of those with a pair not in training."""
    figures: dict[str, float | None] = {}
    for name, right in hits.items():
        accuracy = name.replace("_at_", "_accuracy_at_")
        figures[f"readable_{accuracy}"] = _percent(right[predicted])
        if name.endswith("_1"):
            figures[f"beyond_train_{accuracy}"] = _percent(right[beyond])
    return figures


def _percent(right: np.ndarray) -> float | None:
    return 100.0 * float(right.mean()) if len(right) else None
