"""Scores for every segment of a split: its prediction, or else the training prior."""

from collections import Counter
from collections.abc import Sequence

import torch

from epic100.base.errors import EpicError
from epic100.scoring.folding import REDUCTIONS, fold_pairs, prior_logprobs
from epic100.scoring.predictions import Predictions

HEADS = "heads"  # the scores of the model's verb and noun heads, without folding
Scores = tuple[torch.Tensor, torch.Tensor]


def ways_of(predictions: Predictions) -> tuple[str, ...]:
    """Return the values that `export: reduce:` can have for these predictions."""
    return REDUCTIONS if predictions.verb_log_probs is None else (*REDUCTIONS, HEADS)


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
        why = " (the model has no heads for verbs and nouns: `train: heads:`)"
        raise EpicError(
            f"export: reduce is {reduce!r}; expected one of {', '.join(ways)}"
            f"{why if reduce == HEADS else ''}"
        )
    return reduce


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
        EpicError: An id is listed twice, or predictions have a segment that is not in the split, or
            NaN or infinity.
    """
    way = chosen_way(predictions, reduce)
    (scores,), predicted = complete_ways(predictions, narration_ids, [way])
    return *scores, predicted


def complete_ways(
    predictions: Predictions, narration_ids: list[str], ways: Sequence[str]
) -> tuple[list[Scores], torch.Tensor]:
    """Compute the scores of `complete_scores` for several ways.

    Args:
        predictions: Predictions of the split.
        narration_ids: All segments of the split, N of them.
        ways: Values of `reduce`.

    Returns:
        Verb and noun scores for each of `ways`, and whether each segment was predicted, bool [N].

    Raises:
        EpicError: As `complete_scores`.
    """
    place = {narration_id: i for i, narration_id in enumerate(narration_ids)}
    if len(place) < len(narration_ids):
        twice = next(name for name, count in Counter(narration_ids).items() if count > 1)
        raise EpicError(
            f"the segment list of split {predictions.split} has the narration_id {twice!r} more "
            "than once; expected each once, as the rule annotate writes it"
        )
    strange = [name for name in predictions.narration_ids if name not in place]
    if strange or len(set(predictions.narration_ids)) < len(predictions.narration_ids):
        what = f"{strange[0]}, which is not of the split" if strange else "a segment twice"
        raise EpicError(
            f"predictions of split {predictions.split} name {what}; make them again with the rule "
            "predict"
        )
    found = [predictions.log_probs, predictions.verb_log_probs, predictions.noun_log_probs]
    finite = [scores.isfinite().all(dim=1) for scores in found if scores is not None]
    wild = (~torch.stack(finite).all(dim=0)).nonzero().flatten().tolist()
    if wild:
        raise EpicError(
            f"predictions of split {predictions.split}: {len(wild)} segments hold NaN or infinity, "
            f"the first is {predictions.narration_ids[wild[0]]}; look at the training's loss, then "
            "train and predict again"
        )
    pairs = torch.tensor([pair[:2] for pair in predictions.pairs])
    counts = torch.tensor([pair[2] for pair in predictions.pairs])
    sizes = (predictions.num_verbs, predictions.num_nouns)
    where = torch.tensor([place[name] for name in predictions.narration_ids], dtype=torch.int64)
    predicted = torch.zeros(len(place), dtype=torch.bool)
    predicted[where] = True
    whole = []
    for way in ways:
        reduce = "logsumexp" if way == HEADS else way
        prior = fold_pairs(prior_logprobs(counts)[None], pairs, *sizes, reduce)
        if way == HEADS:
            assert predictions.verb_log_probs is not None  # `chosen_way` has checked this
            assert predictions.noun_log_probs is not None
            rows = (predictions.verb_log_probs, predictions.noun_log_probs)
        else:
            rows = fold_pairs(predictions.log_probs, pairs, *sizes, reduce)
        verb, noun = (part.expand(len(place), -1).clone() for part in prior)
        verb[where], noun[where] = rows
        whole.append((verb, noun))
    return whole, predicted
