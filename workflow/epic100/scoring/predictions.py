"""The file results/predictions/{split}.pt, scores for every segment of its split, and averages."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import torch
from pydantic import FailFast

from epic100.base.checked import STRICT, Array, Id
from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import read_foreign
from epic100.base.torch_file import write_tensors
from epic100.model.model_file import Classes, Name, Pairs, Plain, checked, digest_of, joint_digest
from epic100.scoring.folding import REDUCTIONS, fold_joint, fold_pairs, prior_logprobs
from epic100.segments.segment_list import read_clean_list

FORMAT = "epic100 predictions 2"
# Scores are then those of the model's verb and noun heads, without folding.
HEADS = "heads"
# Scores then come from these heads and the pair head (`fold_joint`).
JOINT = "joint"


log = logging.getLogger(__name__)
PathLike = str | os.PathLike
PairTable = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Predictions:
    """Pair log-probabilities of the segments of one split.

    Attributes:
        split: The split.
        narration_ids: The segments, N of them.
        log_probs: float32 [N, P], normalised per row. Without a pair head, the product of verb and
            noun probabilities over the pairs of the table.
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


def write_predictions(predictions: Predictions, path: str | os.PathLike) -> None:
    """Write predictions atomically, as tensors and plain Python types only."""
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
        split: The split that it must be of.
        model: The model, or the averaged models, that it must be made with. None: not checked.
        clean: The clean list that must have the same segments. None: not checked.

    Raises:
        EpicError: The file is not a predictions file, or is of another split, model or list.
    """
    advice = _again(path)
    predictions = predictions_of(read_foreign(path, "readable as predictions", advice), path, split)
    if model is not None and predictions.model != digest_of(model):
        raise EpicError(f"{path}: made with another model than {model}; {advice}")
    if clean is not None:
        listed = read_clean_list(clean)["narration_id"].tolist()
        lacking = sorted(set(listed).difference(predictions.narration_ids))
        strange = sorted(set(predictions.narration_ids).difference(listed))
        for fault, ids in (("lacks", lacking), ("has, against the list,", strange)):
            if ids:
                raise EpicError(
                    f"{path}: {fault} {len(ids)} segments, the first is {ids[0]}; expected the "
                    f"{len(listed)} of {clean}; {advice}"
                )
    return predictions


def predictions_of(content: Any, path: PathLike, split: str) -> Predictions:
    """Check what a file of predictions holds.

    Args:
        content: As `read_foreign` gives it.
        path: The file, for errors.
        split: The split that it must be of.

    Raises:
        EpicError: They are no predictions, or of another split.
    """
    advice = _again(path)
    names = {field.name for field in fields(Predictions)}
    if (
        not isinstance(content, dict)
        or content.pop("format", None) != FORMAT
        or set(content) != names
    ):
        raise EpicError(
            f"{path}: not a predictions file of this version ({FORMAT!r}); expected what the rule "
            "predict writes; make it again with `snakemake -R predict`"
        )
    predictions = checked(Predictions(**content), path, "predict")
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


def _again(path: PathLike) -> str:
    return f"make it again with `snakemake -R {path}`"


def ways_of(predictions: Predictions) -> tuple[str, ...]:
    """Return the values that `export: reduce:` can have for these predictions."""
    if predictions.verb_log_probs is None:
        return REDUCTIONS
    return (*REDUCTIONS, HEADS, JOINT) if predictions.pair_head else (*REDUCTIONS, HEADS)


def chosen_way(predictions: Predictions, reduce: str | None) -> str:
    """Choose how verb and noun scores are computed.

    Args:
        predictions: Predictions of any model.
        reduce: The value of `export: reduce:`. None means `max` if the model has a pair head, else
            `heads`.

    Raises:
        EpicError: `reduce` is unknown, or these predictions do not have it.
    """
    if reduce is None:
        return "max" if predictions.pair_head else HEADS
    ways = ways_of(predictions)
    if reduce not in ways:
        hint = " (the model lacks a head: `train: heads: both` for all)"
        raise EpicError(
            f"export: reduce is {reduce!r}; expected one of {', '.join(ways)}"
            f"{hint if reduce in (HEADS, JOINT) else ''}"
        )
    return reduce


def marginals(found: Predictions) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of verbs and nouns: those of the model's heads, or summed over pairs."""
    if found.verb_log_probs is not None and found.noun_log_probs is not None:
        return found.verb_log_probs, found.noun_log_probs
    pairs = torch.tensor([pair[:2] for pair in found.pairs])
    return fold_pairs(found.log_probs, pairs, found.num_verbs, found.num_nouns)


def complete_scores(
    predictions: Predictions, narration_ids: list[str], reduce: str | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute verb and noun scores for all segments of a split.

    Segments without a prediction (their video is damaged or missing) get the training prior: the
    pairs' frequencies, folded like a prediction.

    Args:
        predictions: Predictions of the split.
        narration_ids: All segments of the split, N of them.
        reduce: As for `chosen_way`.

    Returns:
        Verb scores [N, V], noun scores [N, M], and whether each segment was predicted, bool [N].

    Raises:
        EpicError: An id is listed twice, or predictions have a segment that is not in the split.
    """
    way = chosen_way(predictions, reduce)
    row_of_segment = {narration_id: i for i, narration_id in enumerate(narration_ids)}
    if len(row_of_segment) < len(narration_ids):
        twice = next(name for name, count in Counter(narration_ids).items() if count > 1)
        raise EpicError(
            f"the segment list of split {predictions.split} has the narration_id {twice!r} more "
            "than once; expected each once, as the rule annotate writes it"
        )
    strange = [name for name in predictions.narration_ids if name not in row_of_segment]
    if strange:
        raise EpicError(
            f"predictions of split {predictions.split} name {strange[0]}, which is not of the "
            "split; make them again with the rule predict"
        )
    pairs = torch.tensor([pair[:2] for pair in predictions.pairs])
    counts = torch.tensor([pair[2] for pair in predictions.pairs])
    sizes = (predictions.num_verbs, predictions.num_nouns)
    rows = torch.tensor(
        [row_of_segment[name] for name in predictions.narration_ids], dtype=torch.int64
    )
    predicted = torch.zeros(len(row_of_segment), dtype=torch.bool)
    predicted[rows] = True
    reduction = {HEADS: "logsumexp", JOINT: "max"}.get(way, way)
    prior = fold_pairs(prior_logprobs(counts)[None], pairs, *sizes, reduction)
    verb, noun = (row.expand(len(row_of_segment), -1).clone() for row in prior)
    heads = (predictions.verb_log_probs, predictions.noun_log_probs)
    predicted_scores = [scores for scores in heads if scores is not None]
    if way == JOINT:
        predicted_scores = [*fold_joint(predictions.log_probs, pairs, *predicted_scores)]
    elif way != HEADS:
        predicted_scores = [*fold_pairs(predictions.log_probs, pairs, *sizes, reduction)]
    verb[rows], noun[rows] = predicted_scores
    return verb, noun, predicted


def average_files(
    parts: Sequence[PathLike], models: Sequence[PathLike], out: PathLike, split: str
) -> None:
    """Average prediction files.

    Args:
        parts: Predictions, one file per model.
        models: The models, in the order of `parts`.
        out: The predictions to write.
        split: The split of the predictions.
    """
    predictions = [
        read_predictions(part, split, model=model)
        for part, model in zip(parts, models, strict=True)
    ]
    mean = average(predictions)
    write_predictions(mean, out)
    pair_counts = ", ".join(str(len(part.pairs)) for part in predictions)
    log.info(
        "%s: mean of %s models of %s pairs; %s in all",
        out,
        len(predictions),
        pair_counts,
        len(mean.pairs),
    )


def average(parts: Sequence[Predictions]) -> Predictions:
    """Average the probabilities of each pair, verb and noun.

    A pair that is not in a model's table has probability 0 for that model. The result's table has
    all pairs of all models, in order of first occurrence, each with its largest count. If any model
    has heads for verbs and nouns, the result has their scores too; for a model without these heads,
    they are the sums over its pairs.

    Args:
        parts: One per model.

    Raises:
        EpicError: The parts differ in classes, split or segments.
    """
    first = parts[0]
    for part in parts[1:]:
        key = (part.split, part.num_verbs, part.num_nouns, sorted(part.narration_ids))
        if key != (first.split, first.num_verbs, first.num_nouns, sorted(first.narration_ids)):
            raise EpicError(
                f"predictions of split {first.split} of several models differ in split, classes or "
                "segments; make them again with the rule predict_one"
            )
    pairs = _union([part.pairs for part in parts])
    column_of_pair = {pair[:2]: index for index, pair in enumerate(pairs)}
    total = torch.zeros(len(first.narration_ids), len(pairs), dtype=torch.float64)
    for part in parts:
        columns = torch.tensor([column_of_pair[(pair[0], pair[1])] for pair in part.pairs])
        total[:, columns] += part.log_probs[_rows(part, first)].double().exp()
    verb, noun = _heads(parts)
    return Predictions(
        first.split,
        first.narration_ids,
        _log_mean(total, len(parts)),
        pairs,
        first.num_verbs,
        first.num_nouns,
        _trained_on(parts),
        joint_digest([part.model for part in parts]),
        verb_log_probs=verb,
        noun_log_probs=noun,
        pair_head=any(part.pair_head for part in parts),
    )


def _union(tables: Sequence[PairTable]) -> PairTable:
    counts: dict[tuple[int, int], int] = {}
    for table in tables:
        for verb, noun, count in table:
            counts[verb, noun] = max(count, counts.get((verb, noun), 0))
    return [(verb, noun, count) for (verb, noun), count in counts.items()]


def _rows(part: Predictions, first: Predictions) -> torch.Tensor:
    """Return the part's row numbers in the order of the first part's segments."""
    row_of_segment = {name: index for index, name in enumerate(part.narration_ids)}
    return torch.tensor([row_of_segment[name] for name in first.narration_ids], dtype=torch.int64)


def _heads(parts: Sequence[Predictions]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if all(part.verb_log_probs is None for part in parts):
        return None, None
    sums: list[Any] = [0, 0]
    for part in parts:
        verb, noun = marginals(part)
        rows = _rows(part, parts[0])
        sums = [sums[0] + verb[rows].double().exp(), sums[1] + noun[rows].double().exp()]
    return _log_mean(sums[0], len(parts)), _log_mean(sums[1], len(parts))


def _log_mean(total: torch.Tensor, number: int) -> torch.Tensor:
    """Return the float32 log of total / number. It is finite even if a probability is 0."""
    least = torch.finfo(torch.float32).tiny
    return (total / number).clamp_min(least).log().float()


def _trained_on(parts: Sequence[Predictions]) -> dict[str, Any]:
    """Join `trained_on`. If models differ, the values with more supervision are used."""
    records = [part.trained_on for part in parts]
    splits = {record.get("split") for record in records}
    weights = [record.get("load_from") for record in records if record.get("load_from")]
    return {
        **records[0],
        "split": records[0].get("split") if len(splits) == 1 else "trainval",
        "load_from": weights[0] if weights else None,
        "models": records,
    }
