"""A published model's figures as its authors report them, beside those that it has here."""

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
from epic100.scoring.outcomes import Truth, outcomes
from epic100.scoring.predictions import HEADS, Predictions, ways_of

# These causes can make a difference of that size; the largest comes first. None was measured here.
CAUSES = (
    ("nearly all is lost", "the order of the classes: adopt again, with the official CSVs"),
    (
        "a third or more",
        "the clock: results/logs/clean.log names videos that were re-timed, "
        "and the report's examples show what the model saw",
    ),
    ("5 to 20 points", "the pictures: turned, mirrored, other colours; look at the examples"),
    ("1 to 5 points", "damaged segments (compare the readable ones), or small, blurred copies"),
    ("below 1 point", "other views than the published ones (`predict: clips:`), or precision"),
)


@dataclass(frozen=True)
class Reported:
    """What a model file says of the model's publication.

    Attributes:
        name: Its name, as `epic100 adopt` has it.
        title: Its name in the literature.
        verb: Top-1 of verbs on val in percent; None if none is reported.
        noun: The same of nouns.
        action: The same of actions.
        own_scores: Whether `action` is that of the model's own scores of actions, and not of the
            official evaluator, which multiplies verb and noun.
    """

    name: Name
    title: Name
    verb: float | None
    noun: float | None
    action: float | None
    own_scores: bool

    __pydantic_config__ = STRICT


def beside_published(
    predictions: Predictions, truth: Truth, official: pd.DataFrame
) -> dict[str, Any] | None:
    """Compare the figures of an adopted model with the published ones.

    Verbs and nouns are those of the model's own heads, or sums over its actions.

    Args:
        predictions: Predictions on val, of one model.
        truth: The segments of val.
        official: Outcomes by the way that `metrics.json` reports (`outcomes`).

    Returns:
        `name`, `title` and `rows`: for all segments and for those with readable video, by what is
        counted, `published`, `here`, their `difference` in points with its 95 % interval (`low`,
        `high`; the segments are taken as drawn anew, so the interval is wider than one that knew
        which segments the published model had right), and whether it `agrees`. None for a model
        that was not adopted.

    Raises:
        EpicError: What the model file says of its publication has another form.
    """
    if not isinstance(content := predictions.trained_on.get("published"), Mapping):
        return None
    try:
        reported = conforming(Reported(**content))
    except (TypeError, ValueError) as error:
        raise EpicError(
            f"the model says in `published` what no model of `epic100 adopt` does: {error}; adopt "
            "it again"
        ) from error
    marginal_outcomes = outcomes(
        predictions, truth, HEADS if HEADS in ways_of(predictions) else "logsumexp"
    )
    action_hits = official["action_at_1"].to_numpy()
    own_hits = own_actions(predictions, truth) if predictions.pair_head else action_hits
    comparisons = (
        ("verb", reported.verb, marginal_outcomes["verb_at_1"].to_numpy()),
        ("noun", reported.noun, marginal_outcomes["noun_at_1"].to_numpy()),
        ("action, own scores", reported.action if reported.own_scores else None, own_hits),
        ("action, official", None if reported.own_scores else reported.action, action_hits),
    )
    readable = official["predicted"].to_numpy()
    rows = [
        {"segments": group, "what": task, **_row(figure, right[mask])}
        for group, mask in (("all", np.ones(len(readable), bool)), ("readable", readable))
        for task, figure, right in comparisons
    ]
    return {"name": reported.name, "title": reported.title, "rows": rows}


def _row(published: float | None, right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """One row of the table, of segments that are right or not."""
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


def own_actions(predictions: Predictions, truth: Truth) -> npt.NDArray[np.bool_]:
    """Whether the pair with the highest score of the pair head is the true one, bool [N].

    A segment without a prediction gets the most frequent pair of training.
    """
    most_frequent = max(predictions.pairs, key=lambda pair: pair[2])[:2]
    guesses = dict.fromkeys(truth.ids, most_frequent)
    pair_numbers = predictions.log_probs.argmax(1).tolist()
    for name, pair in zip(predictions.narration_ids, pair_numbers, strict=True):
        guesses[name] = predictions.pairs[pair][:2]
    pairs = zip(truth.ids, truth.pairs(), strict=True)
    return np.array([guesses[name] == pair for name, pair in pairs], dtype=bool)
