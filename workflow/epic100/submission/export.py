"""From predictions to a complete submission: every segment of the split once."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from epic100.errors import EpicError
from epic100.prediction import Predictions, read_predictions
from epic100.scores import fold_pairs, prior_logprobs
from epic100.segments import read_segments
from epic100.submission import build, write_pt, write_zip
from epic100.submission.check import check


def complete_scores(
    predictions: Predictions, narration_ids: list[str], reduce: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Verb scores [N, V] and noun scores [N, M] for all `narration_ids`, in their order.

    Segments without a prediction (their video is damaged or missing) get the training prior: the
    pairs' frequencies, folded like any prediction. Third: bool [N], which were predicted.
    Raises EpicError where an id stands twice, or predictions name one that is not of the split.
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
    pairs = torch.tensor([pair[:2] for pair in predictions.pairs])
    counts = torch.tensor([pair[2] for pair in predictions.pairs])
    sizes = (predictions.num_verbs, predictions.num_nouns)
    prior = fold_pairs(prior_logprobs(counts)[None], pairs, *sizes, reduce)
    verb, noun = (scores.expand(len(place), -1).clone() for scores in prior)
    where = torch.tensor([place[name] for name in predictions.narration_ids], dtype=torch.int64)
    predicted = torch.zeros(len(place), dtype=torch.bool)
    if len(where):
        verb[where], noun[where] = fold_pairs(predictions.log_probs, pairs, *sizes, reduce)
        predicted[where] = True
    return verb, noun, predicted


def export(
    predictions_path: str | os.PathLike,
    segments_path: str | os.PathLike,
    pt_path: str | os.PathLike,
    zip_path: str | os.PathLike,
    *,
    split: str,
    reduce: str,
    sls: Mapping[str, int],
) -> None:
    """Write `submission.pt` and `submission.zip` for the whole split, and check them.

    `segments_path`: results/segments/{split}.txt, which lists every segment. `sls`: the levels of
    supervision (pt, tl, td) that the server asks for.
    """
    predictions = read_predictions(predictions_path, split)
    ids = read_segments(segments_path)["narration_id"].tolist()
    verb, noun, predicted = complete_scores(predictions, ids, reduce)
    entries = build(ids, verb, noun)
    problems = check(entries, ids, predictions.num_verbs, predictions.num_nouns)
    # Segments that share the prior are equal by design, which is all a hint can say of them.
    faults = [line for line in problems if not line.startswith("hint")]
    if faults:
        raise EpicError(f"{pt_path}: not written: {'; '.join(faults)}")
    write_pt(entries, pt_path)
    write_zip(entries, zip_path, sls)
    prior = len(ids) - int(predicted.sum())
    size = Path(zip_path).stat().st_size / 2**20
    print(
        f"{len(ids)} segments of {split}: {len(ids) - prior} predicted, {prior} with the training "
        f"prior (their video is damaged or missing); zip {size:.1f} MiB"
    )
