"""Fold a model's scores of verb-noun pairs into verb scores and noun scores."""

import math

import torch

from epic100.base.errors import EpicError

# A class without a pair gets this log-probability, unless a class with pairs is even lower in its
# row. It is low enough to change no other class by 1e-10, and high enough for the official
# evaluator. Its softmax is over all N rows, so the smallest action score is exp(2 * FLOOR) / N^2.
# That is a normal float32 up to N = 890,000.
FLOOR = -30.0
REDUCTIONS = ("logsumexp", "max")

# Log-probabilities are raised to this, which is finite in float32. A float64 log-softmax of extreme
# logits can be lower than any float32.
_MIN_LOG_PROB = -1e30
# Rows that are folded at a time: with 3,568 pairs, an array takes 58 MB in float64. Smaller chunks
# fit the cache better, but on busy cores 256 rows took four times as long as 1,024, since threads
# wait for each other.
_CHUNK = 2048


def fold_pairs(
    pair_logprobs: torch.Tensor,
    pairs: torch.Tensor,
    num_verbs: int,
    num_nouns: int,
    reduce: str = "logsumexp",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute verb and noun scores from pair scores.

    `logsumexp` sums the probabilities of all pairs with a verb (or noun). The result is the
    marginal, which is the best choice for verb accuracy and for noun accuracy. `max` takes the most
    probable pair with each verb (or noun). The top-1 verb and noun are then the most probable pair,
    unless two pairs tie. This is the best choice for action accuracy, because the official
    evaluator multiplies verb and noun scores.

    Classes without a pair get min(FLOOR, lowest - 1), where `lowest` is the row's lowest class with
    a pair, so that they are never a better guess. They are part of the row when it is normalised.

    Args:
        pair_logprobs: float [N, P], finite logits or log-probabilities. Adding a constant to a row
            changes nothing.
        pairs: int [P, 2], the (verb, noun) of each column, each once.
        num_verbs: Number of verb classes V.
        num_nouns: Number of noun classes M.
        reduce: One of `REDUCTIONS`.

    Returns:
        Log-probabilities of verbs [N, V] and of nouns [N, M], float32. The probabilities of a row
        sum to 1.

    Raises:
        EpicError: `reduce` is unknown.
    """
    if reduce not in REDUCTIONS:
        raise EpicError(f"reduce is {reduce!r}, expected one of {', '.join(REDUCTIONS)}")
    verb_of_pair, noun_of_pair = pairs.long().to(pair_logprobs.device).unbind(1)
    return (
        _fold(pair_logprobs, verb_of_pair, num_verbs, reduce),
        _fold(pair_logprobs, noun_of_pair, num_nouns, reduce),
    )


def fold_joint(
    pair_logprobs: torch.Tensor,
    pairs: torch.Tensor,
    verb_logprobs: torch.Tensor,
    noun_logprobs: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute verb and noun scores from the scores of all three heads: pairs, verbs and nouns.

    Each of the V x M combinations of a verb and a noun gets a probability. One half of it is the
    probability of the pair head, and the other half is the product of the probabilities of the verb
    head and the noun head. So a pair without training can win, and the pair head counts too. Then
    each verb and noun gets its most probable combination, as with `max` in `fold_pairs`.

    Args:
        pair_logprobs: float [N, P], log-probabilities.
        pairs: int [P, 2], the (verb, noun) of each column.
        verb_logprobs: float [N, V], log-probabilities.
        noun_logprobs: float [N, M], log-probabilities.

    Returns:
        As `fold_pairs`.
    """
    verb_of_pair, noun_of_pair = pairs.long().unbind(1)
    num_verbs, num_nouns = verb_logprobs.shape[1], noun_logprobs.shape[1]
    verbs, nouns = [], []
    for rows in torch.arange(len(pair_logprobs)).split(_CHUNK):
        pair = pair_logprobs[rows].double()
        verb, noun = verb_logprobs[rows].double(), noun_logprobs[rows].double()
        joint = torch.logaddexp(pair, verb[:, verb_of_pair] + noun[:, noun_of_pair])
        # The V x M combinations are not computed. A combination outside the table has its product
        # alone. A pair of the table has its product or more. So a class's best product, over all
        # combinations, and its best pair of the table are enough to find the highest.
        verb_products = verb + noun.amax(1, keepdim=True)
        noun_products = noun + verb.amax(1, keepdim=True)
        verb_pairs = _highest_of_classes(joint, verb_of_pair, num_verbs)
        noun_pairs = _highest_of_classes(joint, noun_of_pair, num_nouns)
        verbs.append(_normalise(verb_pairs.maximum(verb_products)))
        nouns.append(_normalise(noun_pairs.maximum(noun_products)))
    return torch.cat(verbs), torch.cat(nouns)


def prior_logprobs(pair_counts: torch.Tensor) -> torch.Tensor:
    """Compute the log of each pair's frequency in training.

    This is the best guess for segments without frames, whose video is damaged or missing. A count
    of 0 is replaced by 0.5, so that the result is finite.

    Args:
        pair_counts: Number of training segments of each pair, [P], 0 or more.

    Returns:
        float32 [P].
    """
    counts = pair_counts.double().clamp(min=0.5)
    return (counts / counts.sum()).log().float()


def _fold(
    pair_logprobs: torch.Tensor, class_of: torch.Tensor, size: int, reduce: str
) -> torch.Tensor:
    """Compute the scores of verbs or of nouns, float32 [N, size], as `fold_pairs` does.

    Args:
        pair_logprobs: As for `fold_pairs`.
        class_of: The class of each pair, int64 [P].
        size: Number of classes.
        reduce: One of `REDUCTIONS`.
    """
    chunks = []
    for chunk in pair_logprobs.split(_CHUNK):
        logits = chunk.double()
        scores = _highest_of_classes(logits, class_of, size)
        if reduce == "logsumexp":
            scores = _log_sums(logits, class_of, scores)
        chunks.append(_normalise(scores))
    return torch.cat(chunks)


def _highest_of_classes(logits: torch.Tensor, class_of: torch.Tensor, size: int) -> torch.Tensor:
    """Find the highest logit among the pairs of each class (verb or noun).

    Args:
        logits: [rows, pairs].
        class_of: The class of each pair, int64 [pairs].
        size: Number of classes.

    Returns:
        Logits [rows, size]; -inf for a class without a pair.
    """
    highest = logits.new_full((len(logits), size), -math.inf)
    return highest.scatter_reduce_(1, class_of.expand(len(logits), -1), logits, "amax")


def _log_sums(logits: torch.Tensor, class_of: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """Compute the log of the sum of exp(logit) over each class's pairs, [rows, size]."""
    index = class_of.expand(len(logits), -1)
    # Each class is shifted by its own highest pair before exp, and back after log. With the highest
    # pair of the row instead, improbable classes would underflow.
    shifted = highest.gather(1, index).neg_().add_(logits).exp_()
    return torch.zeros_like(highest).scatter_add_(1, index, shifted).log_().add_(highest)


def _normalise(folded: torch.Tensor) -> torch.Tensor:
    """Make each row log-probabilities, with a low value for classes without a pair (`FLOOR`)."""
    # No softmax over the pairs is needed before: their sum per row cancels out here.
    empty = folded.isinf()
    logprobs = folded.log_softmax(dim=1).clamp_(min=_MIN_LOG_PROB)
    lowest = logprobs.masked_fill(empty, math.inf).amin(dim=1, keepdim=True)
    logprobs = torch.where(empty, (lowest - 1).clamp(max=FLOOR), logprobs)
    return logprobs.log_softmax(dim=1).float()
