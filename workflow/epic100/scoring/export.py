"""Turn predictions into a complete submission that has every segment of the split once."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.data.segment_list import DROPPED, read_segments
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.scoring.submission_check import (
    HINT,
    MAX_PRIOR_SHARE,
    check,
    contradictions,
    prior_words,
)
from epic100.scoring.submission_file import build, read_submission, write_zip

log = logging.getLogger(__name__)


def export(
    predictions_path: str | os.PathLike,
    segments_path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str,
    reduce: str | None,
    sls: Mapping[str, int],
    clean: str | os.PathLike | None = None,
    model: str | os.PathLike | Sequence[str] | None = None,
) -> None:
    """Write a submission with every segment of a split, if it passes the check.

    A warning tells if few segments are predicted, with the reasons from `dropped.tsv` next to
    `clean`.

    Args:
        predictions_path: results/predictions/{split}.pt.
        segments_path: results/segments/{split}.txt, which lists every segment of the split.
        out: The file to write; its suffix, `.pt` or `.zip`, chooses the format.
        split: `val` or `test`.
        reduce: How pair scores are folded into verb and noun scores.
        sls: Supervision levels (pt, tl, td) that the server asks for. A level that contradicts the
            model's training is logged as a warning.
        clean: The clean list that the predictions must match, if given.
        model: The model file, or files, that the predictions must come from, if given.

    Raises:
        EpicError: The predictions do not match, or the result does not pass the check.
    """
    out = Path(out)
    predictions = read_predictions(predictions_path, split, model=model, clean=clean)
    ids = read_segments(segments_path)["narration_id"].tolist()
    verb, noun, predicted = complete_scores(predictions, ids, reduce)
    entries = build(ids, verb, noun)
    log.info(f"{out}: writing {len(ids)} segments")
    with atomic_path(out) as temporary:
        if out.suffix == ".zip":
            write_zip(entries, temporary, sls)
        else:
            write_tensors(entries, temporary)
        log.info(f"{out}: written, now checked as the server would")
        problems = check(
            read_submission(temporary), ids, predictions.num_verbs, predictions.num_nouns
        )
        # Hints are skipped: segments that share the prior are equal by design.
        defects = [line for line in problems if not line.startswith(HINT)]
        if defects:
            raise EpicError(f"{out}: not written: {'; '.join(defects)}")
    ids_with_prior = [
        name for name, is_predicted in zip(ids, predicted.tolist(), strict=True) if not is_predicted
    ]
    log.info(
        f"{out}: {len(ids)} segments of {split}, {len(ids) - len(ids_with_prior)} predicted, "
        f"{len(ids_with_prior)} with the training prior; {out.stat().st_size / 2**20:.1f} MiB"
    )
    dropped = Path(clean or segments_path).with_name(DROPPED)
    words = prior_words(ids_with_prior, len(ids), dropped, split)
    if len(ids_with_prior) > MAX_PRIOR_SHARE * len(ids):
        log.warning(f"{out}: worth little: {words}; bring the videos before it is sent")
    elif ids_with_prior:
        log.info(f"{out}: {words}")
    # Only a zip states supervision levels.
    if out.suffix == ".zip":
        for sentence in contradictions(sls, predictions.trained_on):
            log.warning(sentence)
    if predictions.split == "val" and predictions.trained_on.get("split") == "trainval":
        log.warning(
            "the model learned from val (`train: split: trainval`): its metrics there say nothing"
        )
