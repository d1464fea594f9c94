"""Write metrics.json: the official metrics on val, and more diagnostics, in percent.

The diagnostics are calibration, confusions and participants. The metrics of an adopted model are
compared with those that its authors report.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.nn.functional import nll_loss

from epic100.base.atomic import write_text
from epic100.base.checked import STRICT, conforming
from epic100.base.errors import EpicError
from epic100.data.official_lists import DATA_SET
from epic100.model.model_file import Name
from epic100.scoring.metrics import CLASSES, TASKS, group_accuracies, percent, wilson
from epic100.scoring.outcomes import LabelTable, outcomes, own_actions, read_labels
from epic100.scoring.predictions import (
    HEADS,
    Predictions,
    read_predictions,
    reduction_method,
    reduction_methods,
    rows_of,
)

# Bins of confidence for the calibration error.
BINS = 15
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


def evaluate(
    predictions_path: str | os.PathLike,
    segments_path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    lists: Mapping[str, str],
    reduce: str | None,
    data: str = DATA_SET,
    clean: str | os.PathLike | None = None,
    model: str | os.PathLike | Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict:
    """Write the official metrics of split val and more diagnostics to a JSON file, in percent.

    The keys besides the official names are:

    - `readable_*`: the official metrics over the segments with a prediction;
    - `segments`, `predicted`: the number of all segments, and of the segments with a prediction;
    - `by_reduce`: overall metrics for each reduction method of pair scores;
    - `beyond_train`: number of segments with a pair that is not in training;
    - `action_head_accuracy_at_1`: top-1 of the pair head alone over the predicted segments, as
      LaViLa and AVION report it; null without a pair head. The leaderboard's metric,
      `overall_action_accuracy_at_1`, multiplies verb and noun scores;
    - `loss`: over the predicted segments with a pair of training, the sum of the cross-entropies of
      the heads; null without such a segment. It compares models, so it is the same for all: without
      label smoothing, and not the mean of the heads or the user's own loss that a training
      minimises (`val_loss` of training.tsv);
    - `diagnostics`: the result of `diagnose`;
    - `beside_published`: the result of `beside_published`, for an adopted model;
    - `data`: what the annotations are called;
    - `trained_on`: as in the model;
    - `settings`: the sections of the config that the run was made with, for comparisons.

    Args:
        predictions_path: Predictions of split val.
        segments_path: The segment list of split val, with labels.
        out: The JSON file to write.
        lists: Paths by the keys of `official_lists.LISTS`. Without its list, a metric is null.
        reduce: As for `predictions.reduction_method`.
        data: What the annotations are called, see `data.downloads.data_name`.
        clean: The clean list that the predictions must be made from; None: not checked.
        model: The model or models that the predictions must be made with; None: not checked.
        settings: Sections of the config, and `content`: digests of the recipe's files by name.

    Returns:
        The content of `out`.

    Raises:
        EpicError: An input is wrong, or the predictions are of other segments or another model.
    """
    predictions = read_predictions(predictions_path, "val", model=model, clean=clean)
    reduce = reduction_method(predictions, reduce)
    labels = read_labels(segments_path, lists)

    # The official groups of segments, and two more.
    beyond_train = labels.rows_in(predictions.pairs) < 0
    predicted = np.isin(labels.ids, predictions.narration_ids)
    members = labels.members | {
        "readable": dict.fromkeys(TASKS, predicted),
        "beyond_train": dict.fromkeys(TASKS, beyond_train),
    }

    # The chosen method gives the main metrics; the others are in `by_reduce` alone.
    by_reduce: dict[str, dict] = {}
    metrics: dict[str, Any] = {}
    for method in reduction_methods(predictions):
        table = outcomes(predictions, labels, method)
        accuracies = group_accuracies(table, members)
        by_reduce[method] = {
            name: accuracy
            for name, accuracy in accuracies.items()
            if name.startswith(("overall", "readable", "beyond"))
        }
        if method == reduce:
            metrics = accuracies | {"diagnostics": diagnose(table)}
            comparison = beside_published(predictions, labels, table)
            if comparison:
                metrics["beside_published"] = comparison
    metrics |= _head_metrics(predictions, labels)
    metrics |= {
        "reduce": reduce,
        "segments": len(labels.ids),
        "predicted": int(predicted.sum()),
        "beyond_train": int(beyond_train.sum()),
        "by_reduce": by_reduce,
        "data": data,
        "trained_on": predictions.trained_on,
        "settings": dict(settings or {}),
    }
    write_text(out, json.dumps(metrics, indent=2) + "\n")
    return metrics


def diagnose(outcome: pd.DataFrame, top: int = 20) -> dict[str, Any]:
    """Compute accuracy per class and participant, calibration errors and confusions.

    Args:
        outcome: The table that `outcomes` returns.
        top: How many confusions are listed.

    Returns:
        A dict for JSON with the keys `{verb,noun,action}_mean_class_accuracy`, the mean over the
        classes that occur; `{verb,noun,action}_expected_calibration_error`;
        `{verb,noun,action}_confusions`, the `top` most frequent of the predicted segments, with
        their share in percent of the true class's predicted segments, an action as [verb, noun];
        and `participants`, by participant id: `segments`, `predicted`,
        `{verb,noun,action}_accuracy_at_{1,5}` over all segments, and
        `readable_action_accuracy_at_1` over the predicted ones.
    """
    report: dict[str, Any] = {}
    # A segment without a prediction has the training prior, which is no mistake of the model.
    is_predicted = outcome["predicted"]
    # The class of a verb or noun is one column (`keys`), the class of an action is two.
    for task, keys in CLASSES.items():
        class_accuracies = outcome.groupby(keys)[f"{task}_at_1"].mean()
        report[f"{task}_mean_class_accuracy"] = float(100 * class_accuracies.mean())

        guesses = [f"{key}_guess" for key in keys]
        right = (outcome[keys].to_numpy() == outcome[guesses].to_numpy()).all(axis=1)
        report[f"{task}_expected_calibration_error"] = _calibration_error(
            outcome[f"{task}_confidence"], right
        )

        # `class_size` is the number of predicted segments of a segment's class.
        class_sizes = outcome.groupby(keys)["predicted"].transform("sum")
        mistaken = outcome.assign(class_size=class_sizes)[is_predicted & ~right]
        # All segments of a confusion are of one class, so the first one has the size of its class.
        counts = mistaken.groupby([*keys, *guesses])["class_size"].agg(
            count="size", class_size="first"
        )
        report[f"{task}_confusions"] = _confusions(counts)[:top]

    # The accuracies of each participant, in percent.
    by_participant = outcome.groupby("participant")
    column_names = {f"{task}_at_{k}": f"{task}_accuracy_at_{k}" for task in TASKS for k in (1, 5)}
    metrics = (100 * by_participant[list(column_names)].mean()).rename(columns=column_names)
    metrics.insert(0, "segments", by_participant.size())
    metrics.insert(1, "predicted", by_participant["predicted"].sum())
    # A participant without a predicted segment has NaN here, which JSON has not.
    readable = outcome[is_predicted].groupby("participant")["action_at_1"].mean()
    metrics["readable_action_accuracy_at_1"] = (100 * readable).reindex(metrics.index)
    metrics = metrics.astype(object).where(metrics.notna(), None)
    report["participants"] = metrics.to_dict("index")
    return report


def _calibration_error(confidence: pd.Series, right: np.ndarray) -> float:
    """Compute the mean gap between confidence and accuracy over bins, weighted by segments, in %.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3.
    """
    # Bins have equal width over (0, 1].
    bins = np.ceil(confidence * BINS).clip(1, BINS)
    # The sum of a bin is its mean gap times its number of segments.
    gaps = (confidence - right).groupby(bins).sum()
    return float(100 * gaps.abs().sum() / len(right))


def _confusions(counts: pd.DataFrame) -> list[dict[str, Any]]:
    """List the mistakes as entries for JSON, the most frequent first, then by class id.

    Args:
        counts: One row per mistake. The levels of the index are the true class ids and then the
            guessed ones: `verb, verb_guess` for verbs, and `verb, noun, verb_guess, noun_guess` for
            actions. `count` is how often it occurs, and `class_size` the number of segments of the
            true class.
    """
    confusions = []
    counts = counts.sort_values("count", ascending=False, kind="stable")
    for class_ids, count, class_size in counts.itertuples():
        # The first half of the ids is the true class, e.g. (3, 8) -> 3 and 8 for a verb, and
        # (3, 7, 8, 7) -> [3, 7] and [8, 7] for an action.
        true, guess = np.split(np.array(class_ids), 2)
        confusions.append(
            {
                "true": true.squeeze().tolist(),
                "predicted": guess.squeeze().tolist(),
                "count": count,
                "share": 100 * count / class_size,
            }
        )
    return confusions


def _head_metrics(predictions: Predictions, labels: LabelTable) -> dict[str, float | None]:
    """Compute the metrics of the model's heads, before their scores are folded.

    Returns:
        `action_head_accuracy_at_1`, in percent, of the pair head; None without that head. `loss`:
        the sum over the heads of the mean negative log-likelihood of the segments whose pair is in
        training; None without such a segment.
    """
    # Of each predicted segment, the column of its true pair in `log_probs`; -1 for a pair that is
    # not in training, which is never a guess and has no loss.
    rows = rows_of(predictions.narration_ids, labels.ids)
    true_columns = torch.from_numpy(labels.rows_in(predictions.pairs)[rows])
    accuracy = None
    if predictions.pair_head:
        accuracy = percent((predictions.log_probs.argmax(dim=1) == true_columns).numpy())

    # The loss is a sum over the heads that the model has.
    is_trained = true_columns >= 0
    if not is_trained.any():
        return {"action_head_accuracy_at_1": accuracy, "loss": None}
    trained_columns = true_columns[is_trained]
    true_verbs, true_nouns, _ = predictions.pair_table[trained_columns].T
    loss = 0.0
    for log_probs, true_classes in (
        (predictions.verb_log_probs, true_verbs),
        (predictions.noun_log_probs, true_nouns),
        (predictions.log_probs if predictions.pair_head else None, trained_columns),
    ):
        if log_probs is not None:
            loss += nll_loss(log_probs[is_trained].double(), true_classes).item()
    return {"action_head_accuracy_at_1": accuracy, "loss": loss}


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
    # What the model file says of its publication.
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

    # Which segments of val are right, bool [N].
    method = HEADS if HEADS in reduction_methods(predictions) else "logsumexp"
    marginal = outcomes(predictions, labels, method)
    official_action = own_action = official["action_at_1"].to_numpy()
    if predictions.pair_head:
        own_action = own_actions(predictions, labels)

    # The publication counts actions in one of two ways; the other way has nothing to compare with.
    published_own, published_official = None, reported.action
    if reported.own_scores:
        published_own, published_official = reported.action, None
    comparisons = (
        ("verb", reported.verb, marginal["verb_at_1"].to_numpy()),
        ("noun", reported.noun, marginal["noun_at_1"].to_numpy()),
        ("action, own scores", published_own, own_action),
        ("action, official", published_official, official_action),
    )
    is_readable = official["predicted"].to_numpy()
    rows = []
    for group, is_member in (("all", np.ones_like(is_readable)), ("readable", is_readable)):
        for metric, published, right in comparisons:
            row = {"segments": group, "what": metric, "published": published}
            rows.append(row | _difference(published, right[is_member]))
    return {"name": reported.name, "title": reported.title, "rows": rows}


def _difference(published: float | None, right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Compare a published metric with the accuracy here, from which segments are right, bool [N].

    The result has the columns `here difference low high agrees` of `beside_published`.
    """
    here = percent(right)
    if published is None or here is None:
        return {"here": here} | dict.fromkeys(("difference", "low", "high", "agrees"))
    low, high = (bound - published for bound in wilson(here, len(right)))
    return {
        "here": here,
        "difference": here - published,
        "low": low,
        "high": high,
        "agrees": low <= 0 <= high,
    }
