"""From predictions to a complete submission: every segment of the split once."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from epic100.atomic import atomic_path
from epic100.errors import EpicError
from epic100.prediction import Predictions, read_predictions
from epic100.scores import fold_ways, prior_logprobs
from epic100.segments import read_segments
from epic100.submission import build, read_pt, write_pt, write_zip
from epic100.submission.check import HINT, check, check_zip
from epic100.submission.supervision import contradictions


def complete_scores(
    predictions: Predictions, narration_ids: list[str], reduce: str, backoff: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Verb scores [N, V] and noun scores [N, M] for all `narration_ids`, in their order.

    `reduce` and `backoff` as for `scores.fold_pairs`. Segments without a prediction (their video is
    damaged or missing) get the training prior: the pairs' frequencies, folded like any prediction.
    Third: bool [N], which were predicted. Raises EpicError where an id stands twice, predictions
    name one that is not of the split, or hold NaN or infinity.
    """
    (scores,), predicted = complete_ways(predictions, narration_ids, [(reduce, backoff)])
    return *scores, predicted


def complete_ways(
    predictions: Predictions, narration_ids: list[str], ways: Sequence[tuple[str, float]]
) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
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
    wild = (~predictions.log_probs.isfinite().all(dim=1)).nonzero().flatten().tolist()
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
    priors = fold_ways(prior_logprobs(counts)[None], pairs, *sizes, ways)
    folded = fold_ways(predictions.log_probs, pairs, *sizes, ways)
    whole = []
    for prior, rows in zip(priors, folded, strict=True):
        scores = tuple(part.expand(len(place), -1).clone() for part in prior)
        for part, own in zip(scores, rows, strict=True):
            part[where] = own
        whole.append(scores)
    return whole, predicted


def export(
    predictions_path: str | os.PathLike,
    segments_path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str,
    reduce: str,
    backoff: float = 0.0,
    sls: Mapping[str, int],
    clean: str | os.PathLike | None = None,
    model: str | os.PathLike | None = None,
) -> None:
    """Write `out`, `.pt` or `.zip`, for the whole split; it appears only if it passes the check.

    `segments_path`: results/segments/{split}.txt, which lists every segment. `clean`, `model`: what
    the predictions must be made from (`read_predictions`). `sls`: the levels of supervision (pt,
    tl, td) that the server asks for; what contradicts the model's training is said.
    """
    out = Path(out)
    predictions = read_predictions(predictions_path, split, model=model, clean=clean)
    ids = read_segments(segments_path)["narration_id"].tolist()
    verb, noun, predicted = complete_scores(predictions, ids, reduce, backoff)
    entries = build(ids, verb, noun)
    wanted = (ids, predictions.num_verbs, predictions.num_nouns)
    with atomic_path(out) as temporary:
        if out.suffix == ".zip":
            write_zip(entries, temporary, sls)
            problems = check_zip(temporary, *wanted)
        else:
            write_pt(entries, temporary)
            problems = check(read_pt(temporary), *wanted)
        # Segments that share the prior are equal by design, which is all a hint can say of them.
        faults = [line for line in problems if not line.startswith(HINT)]
        if faults:
            raise EpicError(f"{out}: not written: {'; '.join(faults)}")
    prior = len(ids) - int(predicted.sum())
    print(
        f"{out}: {len(ids)} segments of {split}, {len(ids) - prior} predicted, {prior} with the "
        f"training prior (their video is damaged or missing); {out.stat().st_size / 2**20:.1f} MiB"
    )
    _warn(predictions, sls if out.suffix == ".zip" else None)


def _warn(predictions: Predictions, sls: Mapping[str, int] | None) -> None:
    if sls is not None:
        for sentence in contradictions(sls, predictions.trained_on):
            print(f"WARNING: {sentence}")
    if predictions.split == "val" and predictions.trained_on.get("split") == "trainval":
        print("WARNING: the model learned from val (`train: split: trainval`): its figures there "
              "say nothing")  # fmt: skip
