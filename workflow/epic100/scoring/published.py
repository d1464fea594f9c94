"""Compare the metrics that a published model's authors report with the metrics it has here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from epic100.base.checked import STRICT, conforming
from epic100.base.errors import EpicError
from epic100.model.model_file import Name
from epic100.scoring.metrics import percent, wilson
from epic100.scoring.outcomes import LabelTable, outcomes
from epic100.scoring.predictions import HEADS, Predictions, reduction_methods

# Each entry is a size of the difference between reported and own metrics, and a possible cause of a
# difference of that size. The largest comes first. These are judgements; none was measured here.
CAUSES = (
    ("nearly all is lost", "the order of the classes: adopt again, with the official CSVs"),
    (
        "a third or more",
        "the clock: results/logs/clean.log names videos that were re-timed, "
        "and the report's examples show what the model saw",
    ),
    ("5 to 20 points", "the frames: turned, mirrored, other colours; look at the examples"),
    ("1 to 5 points", "damaged segments (compare the readable ones), or small, blurred copies"),
    ("below 1 point", "other views than the published ones (`predict: clips:`), or precision"),
)


@dataclass(frozen=True)
class Reported:
    """The metrics that the authors of a model reported, as its model file states them.

    Attributes:
        name: Name of the model for `epic100 adopt`.
        title: Name of the model in the literature.
        verb: Top-1 accuracy of verbs on val in percent; None if none is reported.
        noun: Top-1 accuracy of nouns on val in percent; None if none is reported.
        action: Top-1 accuracy of actions on val in percent; None if none is reported.
        own_scores: Whether `action` comes from the model's own scores of actions, and not from the
            official evaluator, which multiplies verb and noun scores.
    """

    name: Name
    title: Name
    verb: float | None
    noun: float | None
    action: float | None
    own_scores: bool

    __pydantic_config__ = STRICT


def beside_published(
    predictions: Predictions, labels: LabelTable, official: pd.DataFrame
) -> dict[str, Any] | None:
    """Compare the metrics of an adopted model with the published ones.

    Scores of verbs and nouns come from the model's own heads, or are sums over its actions.

    Args:
        predictions: Predictions on val, of one model.
        labels: The segments of val.
        official: The table of `outcomes` by the reduction method that `metrics.json` reports.

    Returns:
        `name`, `title` and `rows`, a table for JSON; None for a model that was not adopted. There
        is a row for each group of `segments` (all, or readable video) and each metric (`what`). It
        has the metrics `published` and `here`, and their `difference` in points with its 95 %
        interval, `low` to `high`. The published model's right segments are not known, so the
        interval is wider than one of a comparison by segment. `agrees` is whether it contains 0.

    Raises:
        EpicError: The model file states its publication in another form.
    """
    content = predictions.trained_on.get("published")
    if not isinstance(content, Mapping):
        return None
    try:
        reported = conforming(Reported(**content))
    except (TypeError, ValueError) as error:
        raise EpicError(
            f"the model says in `published` what no model of `epic100 adopt` does: {error}; adopt "
            "it again"
        ) from error
    method = HEADS if HEADS in reduction_methods(predictions) else "logsumexp"
    marginal_outcomes = outcomes(predictions, labels, method)
    action_correct = official["action_at_1"].to_numpy()
    own_correct = own_actions(predictions, labels) if predictions.pair_head else action_correct
    comparisons = (
        ("verb", reported.verb, marginal_outcomes["verb_at_1"].to_numpy()),
        ("noun", reported.noun, marginal_outcomes["noun_at_1"].to_numpy()),
        ("action, own scores", reported.action if reported.own_scores else None, own_correct),
        ("action, official", None if reported.own_scores else reported.action, action_correct),
    )
    readable = official["predicted"].to_numpy()
    rows = [
        {"segments": group, "what": task, **_row(metric, right[mask])}
        for group, mask in (("all", np.ones(len(readable), bool)), ("readable", readable))
        for task, metric, right in comparisons
    ]
    return {"name": reported.name, "title": reported.title, "rows": rows}


def _row(published: float | None, right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Compare a published metric with the accuracy here, from which segments are right, bool [N].

    The result has the columns of `beside_published`, without `segments` and `what`.
    """
    accuracy = percent(right)
    row = {"published": published, "here": accuracy, "difference": None, "low": None, "high": None}
    if published is None or accuracy is None:
        return row | {"agrees": None}
    low, high = (bound - published for bound in wilson(accuracy, len(right)))
    return row | {
        "difference": accuracy - published,
        "low": low,
        "high": high,
        "agrees": low <= 0 <= high,
    }


def own_actions(predictions: Predictions, labels: LabelTable) -> npt.NDArray[np.bool_]:
    """Decide for each segment of val whether the pair head's best pair is the true one, bool [N].

    A segment without a prediction gets the most frequent pair of training.
    """
    verb, noun, _ = max(predictions.pairs, key=lambda row: row[2])  # The count comes last.
    guesses = dict.fromkeys(labels.ids, (verb, noun))
    pair_numbers = predictions.log_probs.argmax(1).tolist()
    for name, number in zip(predictions.narration_ids, pair_numbers, strict=True):
        guesses[name] = predictions.pairs[number][:2]
    true_pairs = zip(labels.ids, labels.pairs(), strict=True)
    return np.array([guesses[name] == pair for name, pair in true_pairs], dtype=bool)
