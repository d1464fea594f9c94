"""The predictions file results/predictions/{split}.pt, ensembles, and scores of complete splits."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import FailFast

from epic100.base.checked import STRICT, Array, Id
from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.base.untrusted_tensors import read_untrusted
from epic100.data.segment_list import read_clean_list
from epic100.model.model_file import (
    Classes,
    Name,
    Pairs,
    Plain,
    checked_content,
    digest_of,
    joint_digest,
)
from epic100.scoring.folding import REDUCTIONS, fold_joint, fold_pairs, prior_logprobs

FORMAT = "epic100 predictions 2"
# A reduction method says where the scores of verbs and nouns come from. The methods of `REDUCTIONS`
# fold the scores of pairs: a verb's score is, e.g., the largest score of its pairs (`max`). A model
# with heads for verbs and nouns allows two more methods.
# The scores of the verb head and the noun head are taken as they are.
HEADS = "heads"
# The scores of pairs, verbs and nouns are combined (`fold_joint`), which needs a pair head as well.
JOINT = "joint"

log = logging.getLogger(__name__)
PathLike = str | os.PathLike


@dataclass(frozen=True)
class Predictions:
    """A model's scores for the segments of one split.

    Attributes:
        split: Name of the split.
        narration_ids: Ids of the N segments.
        log_probs: float32 [N, P], log-probabilities of pairs, normalised per row. Without a pair
            head, they come from the products of verb and noun probabilities.
        pairs: (verb, noun, training count) of each column.
        num_verbs: Number of verb classes V.
        num_nouns: Number of noun classes M.
        trained_on: As in `TrainedModel`.
        model: The `model_file.digest` of the model; "" if unknown.
        verb_log_probs: float32 [N, V] of the verb head; None without one.
        noun_log_probs: float32 [N, M] of the noun head; None without one.
        pair_head: Whether the model has a pair head.
    """

    split: Name
    narration_ids: Annotated[list[Id], FailFast()]
    log_probs: Annotated[torch.Tensor, Array("f", "narration_ids pairs")]
    pairs: Pairs
    num_verbs: Classes
    num_nouns: Classes
    trained_on: Plain
    model: Name = ""
    verb_log_probs: Annotated[torch.Tensor, Array("f", "narration_ids num_verbs")] | None = None
    noun_log_probs: Annotated[torch.Tensor, Array("f", "narration_ids num_nouns")] | None = None
    pair_head: bool = True

    __pydantic_config__ = STRICT

    @property
    def pair_table(self) -> torch.Tensor:
        """The verb, the noun and the training count of each pair, int64 [P, 3]."""
        return torch.tensor(self.pairs, dtype=torch.int64)


def write_predictions(predictions: Predictions, path: str | os.PathLike) -> None:
    """Write predictions atomically, as tensors and plain Python types alone."""
    write_tensors({"format": FORMAT, **vars(predictions)}, path)


def read_predictions(
    path: str | os.PathLike,
    split: str,
    *,
    model: str | os.PathLike | Sequence[str] | None = None,
    clean: str | os.PathLike | None = None,
) -> Predictions:
    """Read predictions and check what they were made from.

    Args:
        path: The file.
        split: The split that the predictions must be of.
        model: The model, or the members of the ensemble, that they must be made with. None: not
            checked.
        clean: The clean list that must have the same segments. None: not checked.

    Raises:
        EpicError: The file is not a predictions file, or is of another split, model or list.
    """
    advice = _advice(path)
    predictions = checked_predictions(
        read_untrusted(path, "readable as predictions", advice), path, split
    )
    if model is not None and predictions.model != digest_of(model):
        raise EpicError(f"{path}: made with another model than {model}; {advice}")
    if clean is not None:
        ids_of_list = read_clean_list(clean)["narration_id"].tolist()
        missing = sorted(set(ids_of_list).difference(predictions.narration_ids))
        unlisted = sorted(set(predictions.narration_ids).difference(ids_of_list))
        for defect, ids in (("lacks", missing), ("has, against the list,", unlisted)):
            if ids:
                raise EpicError(
                    f"{path}: {defect} {len(ids)} segments, the first is {ids[0]}; expected the "
                    f"{len(ids_of_list)} of {clean}; {advice}"
                )
    return predictions


def checked_predictions(content: Any, path: PathLike, split: str) -> Predictions:
    """Build predictions from the content of a file, after checking it.

    Args:
        content: The content, from `read_untrusted`.
        path: The file, for errors.
        split: The split that the predictions must be of.

    Raises:
        EpicError: The content is no predictions, or they are of another split.
    """
    advice = _advice(path)
    keys = {field.name for field in fields(Predictions)}
    if (
        not isinstance(content, dict)
        or content.pop("format", None) != FORMAT
        or set(content) != keys
    ):
        raise EpicError(
            f"{path}: not a predictions file of this version ({FORMAT!r}); expected what the rule "
            "predict writes; make it again with `snakemake -R predict`"
        )
    predictions = checked_content(Predictions(**content), path, "predict")
    if len(set(predictions.narration_ids)) < len(predictions.narration_ids):
        raise EpicError(f"{path}: it has a segment twice; {advice}")
    if (predictions.verb_log_probs is None) != (predictions.noun_log_probs is None):
        raise EpicError(f"{path}: it has scores of one head alone; {advice}")
    if predictions.split != split:
        raise EpicError(
            f"{path}: predictions of split {predictions.split!r}, expected {split!r}; see "
            "`export: split:` in the config"
        )
    return predictions


def _advice(path: PathLike) -> str:
    """Tell the user how to make a predictions file again, for errors."""
    return f"make it again with `snakemake -R {path}`"


def reduction_methods(predictions: Predictions) -> tuple[str, ...]:
    """List the reduction methods, the values of `export: reduce:`, that predictions allow.

    Scores of pairs can always be folded. `HEADS` needs a verb head and a noun head, and `JOINT`
    a pair head as well.
    """
    methods = list(REDUCTIONS)
    if predictions.verb_log_probs is not None:
        methods.append(HEADS)
        if predictions.pair_head:
            methods.append(JOINT)
    return tuple(methods)


def reduction_method(predictions: Predictions, reduce: str | None) -> str:
    """Choose the method that computes verb and noun scores.

    Args:
        predictions: Predictions of any model.
        reduce: The value of `export: reduce:`. None means `max` if the model has a pair head, else
            `heads`.

    Raises:
        EpicError: `reduce` is unknown, or these predictions do not have it.
    """
    if reduce is None:
        return "max" if predictions.pair_head else HEADS
    methods = reduction_methods(predictions)
    if reduce not in methods:
        message = f"export: reduce is {reduce!r}; expected one of {', '.join(methods)}"
        # These two are known methods, which need heads that a model may lack.
        if reduce in (HEADS, JOINT):
            message += " (the model lacks a head: `train: heads: both` for all)"
        raise EpicError(message)
    return reduce


def marginals(predictions: Predictions) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities of verbs [N, V] and nouns [N, M].

    They come from the heads for verbs and nouns, or else are sums over pairs.
    """
    if predictions.verb_log_probs is not None and predictions.noun_log_probs is not None:
        return predictions.verb_log_probs, predictions.noun_log_probs
    sizes = (predictions.num_verbs, predictions.num_nouns)
    return fold_pairs(predictions.log_probs, predictions.pair_table[:, :2], *sizes)


def probabilities_by_segment(path: PathLike, split: str) -> dict[str, torch.Tensor]:
    """Read the probabilities of verbs, then of nouns, [V + M], by narration_id.

    A teacher's predictions are read so.
    """
    predictions = read_predictions(path, split)
    rows = torch.cat(marginals(predictions), dim=1).exp()
    return dict(zip(predictions.narration_ids, rows, strict=True))


def complete_scores(
    predictions: Predictions, narration_ids: list[str], reduce: str | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute verb and noun scores for all segments of a split.

    Segments without a prediction, whose video is damaged or missing, get the training prior: the
    pairs' frequencies in training, folded like a prediction.

    Args:
        predictions: Predictions of the split.
        narration_ids: Ids of all N segments of the split.
        reduce: As for `reduction_method`.

    Returns:
        Verb scores [N, V], noun scores [N, M], and whether each segment was predicted, bool [N].

    Raises:
        EpicError: An id is listed twice, or predictions have a segment that is not in the split.
    """
    method = reduction_method(predictions, reduce)
    ids = pd.Index(narration_ids)
    if not ids.is_unique:
        raise EpicError(
            f"the segment list of split {predictions.split} has the narration_id "
            f"{ids[ids.duplicated()][0]!r} more than once; expected each once, as the rule "
            "annotate writes it"
        )
    rows = rows_of(predictions.narration_ids, narration_ids)
    if (rows < 0).any():
        unlisted = predictions.narration_ids[int(rows.argmin())]
        raise EpicError(
            f"predictions of split {predictions.split} name {unlisted}, which is not of the "
            "split; make them again with the rule predict"
        )
    pairs, counts = predictions.pair_table.split([2, 1], dim=1)
    sizes = (predictions.num_verbs, predictions.num_nouns)

    # The prior has scores of pairs alone. So a method that needs other heads is replaced by the one
    # that folds pairs in the same way.
    reduction = {HEADS: "logsumexp", JOINT: "max"}.get(method, method)
    verb_prior, noun_prior = fold_pairs(prior_logprobs(counts.T), pairs, *sizes, reduction)

    # All segments get the prior first; the scores of predicted segments replace it.
    verb, noun = verb_prior.repeat(len(ids), 1), noun_prior.repeat(len(ids), 1)
    predicted = torch.zeros(len(ids), dtype=torch.bool)
    predicted[rows] = True
    if method == HEADS:
        verb[rows], noun[rows] = marginals(predictions)
    elif method == JOINT:
        verb_scores, noun_scores = marginals(predictions)
        verb[rows], noun[rows] = fold_joint(predictions.log_probs, pairs, verb_scores, noun_scores)
    else:
        verb[rows], noun[rows] = fold_pairs(predictions.log_probs, pairs, *sizes, reduction)
    return verb, noun, predicted


def rows_of(narration_ids: Sequence[str], listed: Sequence[str]) -> torch.Tensor:
    """Find the row of each segment in a list of ids without a duplicate, int64; -1: none."""
    return torch.from_numpy(pd.Index(listed).get_indexer(pd.Index(narration_ids)))


def average_files(
    parts: Sequence[PathLike], models: Sequence[PathLike], out: PathLike, split: str
) -> None:
    """Average the predictions files of the members of an ensemble, and write the mean as another.

    Args:
        parts: The predictions files of the members, one per model.
        models: The models, in the order of `parts`.
        out: The predictions file to write.
        split: The split of the predictions.
    """
    members = [
        read_predictions(path, split, model=model)
        for path, model in zip(parts, models, strict=True)
    ]
    mean = average(members)
    write_predictions(mean, out)
    pair_counts = ", ".join(str(len(predictions.pairs)) for predictions in members)
    log.info(
        f"{out}: mean of {len(members)} models of {pair_counts} pairs; {len(mean.pairs)} in all"
    )


def average(members: Sequence[Predictions]) -> Predictions:
    """Average the probabilities that the members of an ensemble give to each pair, verb and noun.

    A pair that is not in a model's table has probability 0 for that model. The result's table has
    all pairs of all models, in order of first occurrence, each with its largest count. If any model
    has heads for verbs and nouns, the result has their scores too; for a model without these heads,
    they are the sums over its pairs.

    Args:
        members: Predictions, one per model. Their segments may be in any order.

    Raises:
        EpicError: The predictions differ in classes, split or segments.
    """
    first = members[0]
    expected = (first.split, first.num_verbs, first.num_nouns, sorted(first.narration_ids))
    for other in members[1:]:
        if expected != (other.split, other.num_verbs, other.num_nouns, sorted(other.narration_ids)):
            raise EpicError(
                f"predictions of split {first.split} of several models differ in split, classes or "
                "segments; make them again: epic100 run -R predict"
            )

    # The joint table has every pair once, with the largest of its counts.
    pair = ["verb", "noun"]
    tables = [
        pd.DataFrame(predictions.pair_table.numpy(), columns=[*pair, "count"])
        for predictions in members
    ]
    counts = pd.concat(tables).groupby(pair, sort=False)["count"].max()

    # Sums of probabilities. Models may have the segments in different orders; all rows follow the
    # first model.
    pair_sum = torch.zeros(len(first.narration_ids), len(counts), dtype=torch.float64)
    num_classes = first.num_verbs + first.num_nouns
    class_sum = torch.zeros(len(first.narration_ids), num_classes, dtype=torch.float64)
    has_heads = any(predictions.verb_log_probs is not None for predictions in members)
    for predictions, table in zip(members, tables, strict=True):
        rows = rows_of(first.narration_ids, predictions.narration_ids)
        columns = counts.index.get_indexer(table.set_index(pair).index)
        pair_sum[:, columns] += predictions.log_probs[rows].double().exp()
        if has_heads:
            class_sum += torch.cat(marginals(predictions), dim=1)[rows].double().exp()

    verb_log_probs = noun_log_probs = None
    if has_heads:
        class_means = _log_mean(class_sum, len(members))
        verb_log_probs = class_means[:, : first.num_verbs].clone()
        noun_log_probs = class_means[:, first.num_verbs :].clone()
    return Predictions(
        split=first.split,
        narration_ids=first.narration_ids,
        log_probs=_log_mean(pair_sum, len(members)),
        pairs=list(counts.reset_index().itertuples(index=False, name=None)),
        num_verbs=first.num_verbs,
        num_nouns=first.num_nouns,
        trained_on=_trained_on([predictions.trained_on for predictions in members]),
        model=joint_digest([predictions.model for predictions in members]),
        verb_log_probs=verb_log_probs,
        noun_log_probs=noun_log_probs,
        pair_head=any(predictions.pair_head for predictions in members),
    )


def _log_mean(total: torch.Tensor, count: int) -> torch.Tensor:
    """Compute the float32 log of total / count; where the total is 0, the log of a tiny number."""
    tiny = torch.finfo(torch.float32).tiny
    return (total / count).clamp_min(tiny).log().float()


def _trained_on(trainings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the fields `Predictions.trained_on` of several models.

    If models differ, the result states the training with more supervision: `trainval`, and start
    weights.
    """
    split = trainings[0].get("split")
    if any(training.get("split") != split for training in trainings):
        split = "trainval"
    weights = [training["load_from"] for training in trainings if training.get("load_from")]
    load_from = weights[0] if weights else None
    return {**trainings[0], "split": split, "load_from": load_from, "models": [*trainings]}
