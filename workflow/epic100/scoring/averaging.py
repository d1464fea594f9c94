"""The mean of several models' predictions. The models may have different pair tables."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import joint_digest
from epic100.scoring.predictions import (
    Predictions,
    marginals,
    read_predictions,
    write_predictions,
)

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
PairTable = list[tuple[int, int, int]]


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
    read = [
        read_predictions(part, split, model=model)
        for part, model in zip(parts, models, strict=True)
    ]
    mean = average(read)
    write_predictions(mean, out)
    tables = ", ".join(str(len(part.pairs)) for part in read)
    log.info(
        "%s: mean of %s models of %s pairs; %s in all", out, len(read), tables, len(mean.pairs)
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
        same = (part.split, part.num_verbs, part.num_nouns, sorted(part.narration_ids))
        if same != (first.split, first.num_verbs, first.num_nouns, sorted(first.narration_ids)):
            raise EpicError(
                f"predictions of split {first.split} of several models differ in split, classes or "
                "segments; make them again with the rule predict_one"
            )
    pairs = _union([part.pairs for part in parts])
    column = {pair[:2]: index for index, pair in enumerate(pairs)}
    total = torch.zeros(len(first.narration_ids), len(pairs), dtype=torch.float64)
    for part in parts:
        columns = torch.tensor([column[(pair[0], pair[1])] for pair in part.pairs])
        total[:, columns] += part.log_probs[_rows(part, first)].double().exp()
    verb, noun = _heads(parts)
    return Predictions(
        first.split, first.narration_ids, _log_mean(total, len(parts)), pairs, first.num_verbs,
        first.num_nouns, _trained_on(parts), joint_digest([part.model for part in parts]),
        verb_log_probs=verb, noun_log_probs=noun,
        pair_head=any(part.pair_head for part in parts),
    )  # fmt: skip


def _union(tables: Sequence[PairTable]) -> PairTable:
    counts: dict[tuple[int, int], int] = {}
    for table in tables:
        for verb, noun, count in table:
            counts[verb, noun] = max(count, counts.get((verb, noun), 0))
    return [(verb, noun, count) for (verb, noun), count in counts.items()]


def _rows(part: Predictions, first: Predictions) -> torch.Tensor:
    """Return the part's row numbers in the order of the first part's segments."""
    place = {name: index for index, name in enumerate(part.narration_ids)}
    return torch.tensor([place[name] for name in first.narration_ids], dtype=torch.int64)


def _heads(parts: Sequence[Predictions]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if all(part.verb_log_probs is None for part in parts):
        return None, None
    sums: list[Any] = [0, 0]
    for part in parts:
        verb, noun = marginals(part)
        order = _rows(part, parts[0])
        sums = [sums[0] + verb[order].double().exp(), sums[1] + noun[order].double().exp()]
    return _log_mean(sums[0], len(parts)), _log_mean(sums[1], len(parts))


def _log_mean(total: torch.Tensor, number: int) -> torch.Tensor:
    """Return the float32 log of total / number. It is finite even if a probability is 0."""
    least = torch.finfo(torch.float32).tiny
    return (total / number).clamp_min(least).log().float()


def _trained_on(parts: Sequence[Predictions]) -> dict[str, Any]:
    """Join `trained_on`. If models differ, the values with more supervision are used."""
    about = [part.trained_on for part in parts]
    splits = {item.get("split") for item in about}
    weights = [item.get("load_from") for item in about if item.get("load_from")]
    return {
        **about[0],
        "split": about[0].get("split") if len(splits) == 1 else "trainval",
        "load_from": weights[0] if weights else None,
        "models": about,
    }
