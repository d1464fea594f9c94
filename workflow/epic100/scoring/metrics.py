"""The official figures of the EPIC-KITCHENS-100 action recognition challenge, in percent.

What is computed is what epic-kitchens/C1-Action-Recognition computes (evaluate.py,
utils/metrics.py, utils/scoring.py at c90b6f9), to the last tie: its way of ranking is
`argsort(...)[::-1]` with NumPy's default sort, so ties are ranked by the same call here. It prints
the prefixes `all`, `unseen` and `tail`; the first is called `overall` here.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from epic100.base.errors import EpicError

TASKS = ("verb", "noun", "action")

_TOP_CLASSES = 100  # the official action score knows the best 100 verbs and nouns of a segment only
_CHUNK = 256  # segments with ties at a time: 97 x 100 products and their ranks, some 30 MB

# Ranks (verb, noun) whose product can be among the six highest of a segment: (i + 1) * (j + 1)
# products, itself one of them, are at least as high.
_CANDIDATES = np.array([(i, j) for i in range(6) for j in range(6) if (i + 1) * (j + 1) <= 6])

Scores = torch.Tensor | np.ndarray
Labels = torch.Tensor | np.ndarray | Sequence[int]


class RecognitionMetrics:
    """Gathers batches of scores and labels, then gives the official figures of all of them.

    Nothing can be averaged batch by batch: the official action score is a softmax over all rows.
    So the scores are kept, in host memory, 1.6 kB a segment.
    """

    def __init__(
        self,
        tail_verbs: Iterable[int] = (),
        tail_nouns: Iterable[int] = (),
        unseen_participants: Iterable[str] = (),
    ):
        """Class ids of the tail lists; participants without a video in training."""
        self.tail_verbs = list(tail_verbs)
        self.tail_nouns = list(tail_nouns)
        self.unseen_participants = list(unseen_participants)
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._batches: list[tuple[np.ndarray, ...]] = []

    def update(
        self,
        verb_scores: Scores,
        noun_scores: Scores,
        verb_true: Labels,
        noun_true: Labels,
        participant_ids: Sequence[str] | np.ndarray,
    ) -> None:
        """Add a batch: scores [B, V] and [B, M] on any device, labels [B], participants [B]."""
        batch = _checked(verb_scores, noun_scores, verb_true, noun_true, participant_ids)
        # Copies: a training loop may reuse the memory of its batch.
        self._batches.append(tuple(column.copy() for column in batch))

    def compute(self) -> dict[str, float | None]:
        """The figures of `official_metrics` over all batches; EpicError where there is none."""
        if not self._batches:
            raise EpicError("no segment to evaluate: no batch was added")
        verbs, nouns, verb_true, noun_true, participants = (
            np.concatenate(column) for column in zip(*self._batches, strict=True)
        )
        return official_metrics(
            verbs, nouns, verb_true, noun_true, participants,
            self.tail_verbs, self.tail_nouns, self.unseen_participants,
        )  # fmt: skip


def official_metrics(
    verb_scores: Scores,
    noun_scores: Scores,
    verb_true: Labels,
    noun_true: Labels,
    participant_ids: Sequence[str] | np.ndarray,
    tail_verbs: Iterable[int],
    tail_nouns: Iterable[int],
    unseen_participants: Iterable[str],
) -> dict[str, float | None]:
    """Accuracies in percent: overall at 1 and 5, unseen participants and tail classes at 1.

    Scores [N, V] and [N, M], log-probabilities or logits on one scale for all rows; labels [N];
    participants [N]. Keys are `{overall,unseen,tail}_{verb,noun,action}_accuracy_at_{1,5}`. A tail
    action has a tail verb or a tail noun. A figure over no segment at all (no unseen participant,
    no tail class in these labels) is None: the official evaluator leaves the unseen ones out and
    stops with an error at the tail ones.

    EpicError: no segment, lengths that differ, NaN or infinite scores, labels out of range.
    Source: epic-kitchens/C1-Action-Recognition, evaluate.py.
    """
    data = _checked(verb_scores, noun_scores, verb_true, noun_true, participant_ids)
    verbs, nouns, verb_true, noun_true, participants = data
    hits = _official_hits(verbs, nouns, verb_true, noun_true)
    groups = (tail_verbs, tail_nouns, unseen_participants)
    return group_accuracies(hits, verb_true, noun_true, participants, *groups)


def group_accuracies(
    hits: dict[str, np.ndarray],
    verb_true: np.ndarray,
    noun_true: np.ndarray,
    participant_ids: Sequence[str] | np.ndarray,
    tail_verbs: Iterable[int],
    tail_nouns: Iterable[int],
    unseen_participants: Iterable[str],
) -> dict[str, float | None]:
    """The figures of `official_metrics` from `official_hits` of the same segments."""
    members = group_members(
        verb_true, noun_true, participant_ids, tail_verbs, tail_nouns, unseen_participants
    )
    figures = {}
    for task, everything in members["overall"].items():
        figures[f"overall_{task}_accuracy_at_1"] = _percent(hits[f"{task}_at_1"], everything)
        figures[f"overall_{task}_accuracy_at_5"] = _percent(hits[f"{task}_at_5"], everything)
    for group in ("unseen", "tail"):
        for task, own in members[group].items():
            figures[f"{group}_{task}_accuracy_at_1"] = _percent(hits[f"{task}_at_1"], own)
    return figures


def group_members(
    verb_true: np.ndarray,
    noun_true: np.ndarray,
    participant_ids: Sequence[str] | np.ndarray,
    tail_verbs: Iterable[int],
    tail_nouns: Iterable[int],
    unseen_participants: Iterable[str],
) -> dict[str, dict[str, np.ndarray]]:
    """Which segments the official figures are over: bool [N] by group, then by task.

    Groups are `overall`, `unseen` and `tail`; arguments as for `official_metrics`.
    """
    tail_verb = np.isin(verb_true, list(tail_verbs))
    tail_noun = np.isin(noun_true, list(tail_nouns))
    participants = np.asarray(participant_ids, dtype=str)
    unseen = np.isin(participants, np.array(list(unseen_participants), dtype=str))
    return {
        "overall": dict.fromkeys(TASKS, np.ones(len(participants), dtype=bool)),
        "unseen": dict.fromkeys(TASKS, unseen),
        "tail": {"verb": tail_verb, "noun": tail_noun, "action": tail_verb | tail_noun},
    }


def official_hits(
    verb_scores: Scores, noun_scores: Scores, verb_true: Labels, noun_true: Labels
) -> dict[str, np.ndarray]:
    """Which segments are right: bool [N] under the keys `{verb,noun,action}_at_{1,5}`.

    Arguments and errors as for `official_metrics`.
    """
    unknown = [""] * len(verb_true)
    return _official_hits(*_checked(verb_scores, noun_scores, verb_true, noun_true, unknown)[:4])


def _official_hits(
    verbs: np.ndarray, nouns: np.ndarray, verb_true: np.ndarray, noun_true: np.ndarray
) -> dict[str, np.ndarray]:
    verb_order, noun_order = _descending(verbs), _descending(nouns)
    verb_hit = verb_order[:, :5] == verb_true[:, None]
    noun_hit = noun_order[:, :5] == noun_true[:, None]
    action_verbs, action_nouns = _top_actions(verbs, nouns, verb_order, noun_order)
    action_hit = (action_verbs == verb_true[:, None]) & (action_nouns == noun_true[:, None])
    hits = {}
    for task, hit in zip(TASKS, (verb_hit, noun_hit, action_hit), strict=True):
        hits[f"{task}_at_1"], hits[f"{task}_at_5"] = hit[:, 0], hit.any(axis=1)
    return hits


def _top_actions(
    verbs: np.ndarray, nouns: np.ndarray, verb_order: np.ndarray, noun_order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The five best actions of each segment, as verbs and nouns [N, 5]; -1 where there are fewer.

    The first is in place; the other four are a set. A product rises with both its factors, also
    when rounded, so the six highest values lie among _CANDIDATES, and where the first differs from
    the second and the fifth from the sixth, no way of ranking can choose otherwise. The other
    segments are ranked in full, as the official evaluator does.
    """
    verb_order, noun_order = verb_order[:, :_TOP_CLASSES], noun_order[:, :_TOP_CLASSES]
    verb_probs = _softmax_of_all(np.take_along_axis(verbs, verb_order, axis=1))
    noun_probs = _softmax_of_all(np.take_along_axis(nouns, noun_order, axis=1))

    verb_rank, noun_rank = _CANDIDATES.T
    inside = (verb_rank < verb_probs.shape[1]) & (noun_rank < noun_probs.shape[1])
    verb_rank, noun_rank = verb_rank[inside], noun_rank[inside]
    products = verb_probs[:, verb_rank] * noun_probs[:, noun_rank]
    best = np.argsort(-products, axis=1, kind="stable")[:, :6]
    values = np.full((len(verbs), 6), -1, dtype=products.dtype)
    values[:, : best.shape[1]] = np.take_along_axis(products, best, axis=1)
    verb_rank, noun_rank = _fill(verb_rank[best[:, :5]]), _fill(noun_rank[best[:, :5]])

    clear = (values[:, 0] > values[:, 1]) & ((values[:, 4] > values[:, 5]) | (values[:, 5] < 0))
    tied = np.flatnonzero(~clear)
    for start in range(0, len(tied), _CHUNK):
        rows = tied[start : start + _CHUNK]
        product = verb_probs[rows][:, :, None] * noun_probs[rows][:, None, :]
        flat = product.reshape(len(rows), -1)
        # Twice: the official evaluator keeps the best 100 and ranks those again, which can turn
        # the order of ties around.
        order = _descending(flat)[:, :_TOP_CLASSES]
        again = _descending(np.take_along_axis(flat, order, axis=1))[:, :5]
        order = np.take_along_axis(order, again, axis=1)
        verb_rank[rows] = _fill(order // product.shape[2])
        noun_rank[rows] = _fill(order % product.shape[2])

    missing = verb_rank < 0
    top_verbs = np.take_along_axis(verb_order, np.where(missing, 0, verb_rank), axis=1)
    top_nouns = np.take_along_axis(noun_order, np.where(missing, 0, noun_rank), axis=1)
    return np.where(missing, -1, top_verbs), np.where(missing, -1, top_nouns)


def _fill(ranks: np.ndarray) -> np.ndarray:
    return np.pad(ranks, ((0, 0), (0, 5 - ranks.shape[1])), constant_values=-1)


def _descending(scores: np.ndarray) -> np.ndarray:
    # Not argsort(-scores) and not a stable sort: ties must fall as in the official evaluator.
    return np.argsort(scores, axis=-1)[:, ::-1]


def _softmax_of_all(scores: np.ndarray) -> np.ndarray:
    # In the dtype of the scores, so that float16 scores underflow here as they do there.
    exp = np.exp(scores - scores.max())
    return exp / exp.sum()


def _percent(hit: np.ndarray, members: np.ndarray) -> float | None:
    return float(hit[members].mean() * 100) if members.any() else None


def _checked(
    verb_scores: Scores,
    noun_scores: Scores,
    verb_true: Labels,
    noun_true: Labels,
    participant_ids: Sequence[str] | np.ndarray,
) -> tuple[np.ndarray, ...]:
    verbs, nouns = _score_array(verb_scores, "verb"), _score_array(noun_scores, "noun")
    labels = [
        _label_array(verb_true, "verb", verbs.shape[1]),
        _label_array(noun_true, "noun", nouns.shape[1]),
    ]
    participants = np.asarray(participant_ids, dtype=str)
    lengths = [len(column) for column in (verbs, nouns, *labels, participants)]
    if len(set(lengths)) != 1:
        names = "verb scores, noun scores, verb labels, noun labels, participants"
        raise EpicError(f"{names} are {lengths} segments long, expected the same length for all")
    if not len(verbs):
        raise EpicError("no segment to evaluate")
    return verbs, nouns, *labels, participants


def _score_array(scores: Scores, task: str) -> np.ndarray:
    if isinstance(scores, torch.Tensor):
        scores = scores.detach().cpu()
        scores = (scores.float() if scores.dtype == torch.bfloat16 else scores).numpy()
    if scores.ndim != 2 or not scores.shape[1] or scores.dtype.kind != "f":
        raise EpicError(
            f"{task} scores are {scores.dtype} {list(scores.shape)}, expected floats"
            " [segments, classes]"
        )
    bad = np.asarray(~np.isfinite(scores).all(axis=1))
    if bad.any():
        raise EpicError(
            f"{bad.sum()} of {len(bad)} rows of the {task} scores hold NaN or infinity, the first"
            f" is row {bad.argmax()}"
        )
    return scores


def _label_array(labels: Labels, task: str, size: int) -> np.ndarray:
    labels = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if labels.ndim != 1 or (len(labels) and labels.dtype.kind not in "iu"):
        raise EpicError(f"{task} labels are {labels.dtype} {list(labels.shape)}, expected integers")
    outside = (labels < 0) | (labels >= size)
    if outside.any():
        row = int(outside.argmax())
        raise EpicError(
            f"{task} label {labels[row]} of row {row} is not one of the {size} classes of the"
            f" scores ({outside.sum()} such rows); a split without labels cannot be evaluated"
        )
    return labels
