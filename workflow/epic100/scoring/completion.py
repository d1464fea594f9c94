"""Scores for every segment of a split: predictions, and the training prior where there is none."""

from collections import Counter
from collections.abc import Sequence

import torch

from epic100.base.errors import EpicError
from epic100.scoring.folding import REDUCTIONS, fold_ways, prior_logprobs
from epic100.scoring.predictions import Predictions

HEADS = "heads"  # the scores of a model's own heads for verbs and nouns, nothing folded
Scores = tuple[torch.Tensor, torch.Tensor]


def ways_of(predictions: Predictions) -> tuple[str, ...]:
    """What `export: reduce:` can be for these predictions."""
    return REDUCTIONS if predictions.verb_log_probs is None else (*REDUCTIONS, HEADS)


def chosen_way(predictions: Predictions, reduce: str | None) -> str:
    """How pair scores become verb and noun scores.

    Args:
        predictions: Of any model.
        reduce: As `export: reduce:` says; None is `max` where the model has a head over pairs, and
            `heads` where it has none.

    Raises:
        EpicError: A way that is unknown, or that these predictions do not have.
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
    predictions: Predictions, narration_ids: list[str], reduce: str | None, backoff: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Verb scores [N, V] and noun scores [N, M] for all `narration_ids`, in their order.

    `reduce` as for `chosen_way`, `backoff` as for `folding.fold_pairs`. Segments without a
    prediction (their video is damaged or missing) get the training prior: the pairs' frequencies,
    folded like any prediction. Third: bool [N], which were predicted. Raises EpicError where an id
    is there twice, predictions name one that is not of the split, or hold NaN or infinity.
    """
    way = chosen_way(predictions, reduce)
    (scores,), predicted = complete_ways(predictions, narration_ids, [(way, backoff)])
    return *scores, predicted


def complete_ways(
    predictions: Predictions, narration_ids: list[str], ways: Sequence[tuple[str, float]]
) -> tuple[list[Scores], torch.Tensor]:
    """Verb and noun scores as `complete_scores` gives them, for each (reduce, backoff) of `ways`;
    second: which were predicted."""
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
    foldings = [("logsumexp", 0.0) if way[0] == HEADS else way for way in ways]
    priors = fold_ways(prior_logprobs(counts)[None], pairs, *sizes, foldings)
    folded = fold_ways(predictions.log_probs, pairs, *sizes, foldings)
    whole = []
    for way, prior, rows in zip(ways, priors, folded, strict=True):
        if way[0] == HEADS:
            assert predictions.verb_log_probs is not None  # `chosen_way` saw to it
            assert predictions.noun_log_probs is not None
            rows = (predictions.verb_log_probs, predictions.noun_log_probs)
        verb, noun = (part.expand(len(place), -1).clone() for part in prior)
        verb[where], noun[where] = rows
        whole.append((verb, noun))
    return whole, predicted
