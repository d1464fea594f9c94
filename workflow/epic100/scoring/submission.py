"""A submission: written from predictions, and checked before upload.

The check gives one line per problem that the server would report. A line that starts with HINT is
no error for the server, but is rarely intended. Segments without a prediction are such a case: all
have the same scores, the training prior. It is the best guess without a frame and right for about
one action in a hundred, so too many of them make a submission worthless. A file does not mark these
segments, but no other segments have all scores equal.

Supervision levels (SLS): Damen and Wray, Supervision Levels Scale, arXiv 2008.09890;
github.com/epic-kitchens/sls.
"""

import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.data.segment_list import DROPPED, read_drop_types, read_segments
from epic100.scoring.predictions import complete_scores, read_predictions
from epic100.scoring.submission_file import OUTPUTS, build, read_submission, some_of, write_zip

log = logging.getLogger(__name__)

HINT = "hint: "
# If a larger share of the segments, 0 to 1, has the training prior, this is a problem.
MAX_PRIOR_SHARE = 0.5
# These words in the name of a weights file show that the weights were trained on videos.
VIDEO_DATA = ("kinetics", "k400", "k600", "k700", "ssv2", "sthv2", "something")

# A float32 below the exponential of this, its smallest number, becomes 0.
_SMALLEST = math.log(1.4e-45)


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

    # The file keeps its temporary name until it has passed the check.
    log.info(f"{out}: writing {len(ids)} segments")
    with atomic_path(out) as temporary:
        if out.suffix == ".zip":
            write_zip(entries, temporary, sls)
        else:
            write_tensors(entries, temporary)
        log.info(f"{out}: written, now checked as the server would")
        sizes = (predictions.num_verbs, predictions.num_nouns)
        problems = check(read_submission(temporary), ids, *sizes)
        # Hints are skipped: segments that share the prior are equal by design.
        defects = "; ".join(line for line in problems if not line.startswith(HINT))
        if defects:
            raise EpicError(f"{out}: not written: {defects}")

    # What the user should know of it.
    absent = np.array(ids, dtype=object)[~predicted.numpy()].tolist()
    log.info(
        f"{out}: {len(ids)} segments of {split}, {len(ids) - len(absent)} predicted, "
        f"{len(absent)} with the training prior; {out.stat().st_size / 2**20:.1f} MiB"
    )
    dropped = Path(clean or segments_path).with_name(DROPPED)
    words = prior_words(absent, len(ids), dropped, split)
    if len(absent) > MAX_PRIOR_SHARE * len(ids):
        log.warning(f"{out}: worth little: {words}; bring the videos before it is sent")
    elif absent:
        log.info(f"{out}: {words}")
    # Only a zip states supervision levels.
    if out.suffix == ".zip":
        for sentence in contradictions(sls, predictions.trained_on):
            log.warning(sentence)
    if split == "val" and predictions.trained_on.get("split") == "trainval":
        log.warning(
            "the model learned from val (`train: split: trainval`): its metrics there say nothing"
        )


def check(
    entries: Sequence[Mapping[str, Any]],
    expected_ids: Iterable[str],
    num_verbs: int,
    num_nouns: int,
) -> list[str]:
    """List the problems of a submission's entries, and hints.

    Problems are missing, unexpected and duplicate ids, wrong shapes and dtypes, NaN and infinity.
    Hints are ties for the highest score and segments that become 0 in the official softmax.

    Args:
        entries: One dict per segment: `narration_id`, `verb_output` and `noun_output`.
        expected_ids: The narration ids of the split.
        num_verbs: Scores that each `verb_output` must have.
        num_nouns: Scores that each `noun_output` must have.

    Returns:
        One line per problem, hints last; empty if there are none.
    """
    problems = _id_problems([entry["narration_id"] for entry in entries], expected_ids)
    names = pd.Series([str(entry["narration_id"]) for entry in entries], dtype=object)
    # The log-probability of each segment's best class, a tensor for each key without defects.
    best_log_probs: list[torch.Tensor] = []
    for key, size in zip(OUTPUTS, (num_verbs, num_nouns), strict=True):
        # Scores with the right shape and type are checked together, as rows [good, size].
        scores = [entry[key].detach().cpu() for entry in entries]
        defects = pd.Series([_defect(row, size) for row in scores], dtype=object)
        is_good = defects == ""
        rows = torch.empty(int(is_good.sum()), size)
        for row, number in enumerate(np.flatnonzero(is_good)):
            rows[row] = scores[number]

        is_tied = ((rows == rows.amax(dim=1, keepdim=True)).sum(dim=1) > 1).numpy()
        if size > 1 and is_tied.any():
            equal_count = int((rows[is_tied] == rows[is_tied][:, :1]).all(dim=1).sum())
            problems.append(
                f"{HINT}{key} has several classes tied for the highest score in"
                f" {some_of(names[is_good][is_tied].tolist())}; all classes in {equal_count} of"
                " them"
            )

        is_finite = rows.isfinite().all(dim=1)
        defects[is_good] = np.where(is_finite, "", "holds NaN or infinity")
        for defect, segments in names[defects != ""].groupby(defects, sort=False):
            problems.append(f"{key} {defect} in {some_of(segments.tolist())}")
        if is_good.all() and is_finite.all():
            # The official softmax is over the scores of all segments together.
            rows = rows.double()
            best_log_probs.append(rows.amax(dim=1) - rows.flatten().logsumexp(0))
    # Without defects, both keys have a row for each entry. A sum of both is the log-probability of
    # the best action, and no other action of the segment has a higher one.
    if len(best_log_probs) == len(OUTPUTS):
        zeroed = names[(torch.stack(best_log_probs).sum(dim=0) < _SMALLEST).numpy()].tolist()
        if zeroed:
            problems.append(
                f"{HINT}all action scores become 0 in {some_of(zeroed)}: the official evaluator "
                "takes one softmax over all rows; give row-normalised log-probabilities"
            )
    return sorted(problems, key=lambda line: line.startswith(HINT))


def _defect(scores: torch.Tensor, size: int) -> str:
    """Describe what is wrong with the type of a segment's scores; "" if they are float32 [size]."""
    if tuple(scores.shape) != (size,):
        return f"has shape {list(scores.shape)}, expected [{size}]"
    if scores.dtype != torch.float32:
        return f"is {str(scores.dtype).removeprefix('torch.')}, expected float32"
    return ""


def contradictions(sls: Mapping[str, int], trained_on: Mapping[str, Any]) -> list[str]:
    """List the supervision levels that contradict the training, one sentence each.

    Args:
        sls: Levels `pt` (pretraining), `tl` (training labels) and `td` (training data).
        trained_on: As in `model_file.TrainedModel`; only `split` and `load_from` are used.
    """
    pt, tl, td = sls["pt"], sls["tl"], sls["td"]
    weights, split = trained_on.get("load_from"), str(trained_on.get("split"))
    defects = []
    if not weights and pt != 0:
        defects.append(f"pt is {pt}, but the model was trained from scratch: 0")
    if weights and pt == 0:
        defects.append(f"pt is 0, but training started from {weights}: 2 for Kinetics weights")
    of_video = any(word in str(weights).lower() for word in VIDEO_DATA)
    if of_video and pt == 1:
        defects.append(f"pt is 1 (images only), but {weights} learned from videos: 2")
    if tl < 3:
        defects.append(f"tl is {tl}, but start and end of each segment were used: 3")
    true_td = {"train": 3, "trainval": 4}.get(split, td)
    if td != true_td:
        defects.append(f"td is {td}, but the model was trained on {split}: {true_td}")
    return [f"export: sls: {defect}" for defect in defects]


def prior_words(ids: Sequence[str], total: int, dropped: str | os.PathLike, split: str) -> str:
    """Describe how many segments have the training prior, and why.

    Example: `3 of 8 segments (37.5%) without a prediction: 2 video missing, 1 video damaged`.

    Args:
        ids: The segments without a prediction.
        total: Number of segments in the split.
        dropped: results/clean/dropped.tsv; if the file is missing, no reasons are given.
        split: `val` or `test`.
    """
    reasons = read_drop_types(dropped, split) if Path(dropped).is_file() else {}
    counts = Counter(reasons.get(name, "no reason in dropped.tsv") for name in ids)
    counted = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    why = f": {counted}" if reasons and counts else ""
    return (
        f"{len(ids)} of {total} segments ({len(ids) / max(total, 1):.1%}) without a prediction{why}"
    )


def prior_problems(
    entries: Sequence[Mapping[str, Any]], dropped: str | os.PathLike, split: str, max_share: float
) -> list[str]:
    """Report the segments that have the training prior: a problem, a hint or nothing.

    These segments had no prediction, and got the frequencies of the classes in train. They are the
    largest group with the same scores: a model computes no two segments alike to the last bit.

    Args:
        entries: Entries from `build` or `read_submission`.
        dropped: results/clean/dropped.tsv.
        split: `val` or `test`.
        max_share: Share of the entries, 0 to 1. Above it the line is a problem, otherwise a hint.

    Returns:
        One line, or none if no segments share all scores.
    """
    ids_by_scores = defaultdict(list)
    for entry in entries:
        scores = b"".join(entry[key].detach().cpu().numpy().tobytes() for key in OUTPUTS)
        ids_by_scores[scores].append(str(entry["narration_id"]))
    ids = max(ids_by_scores.values(), key=len, default=[])
    if len(ids) < 2:
        return []
    words = f"all scores are the same in {prior_words(ids, len(entries), dropped, split)}"
    if len(ids) <= max_share * len(entries):
        return [f"{HINT}{words}"]
    return [
        f"{words}; expected at most {max_share:.0%}: bring the videos and predict again, or send "
        "it as it is and check with --allow-prior 1"
    ]


def _id_problems(ids: Sequence[Any], expected_ids: Iterable[str]) -> list[str]:
    """List the problems of narration ids: no str, missing, unexpected, duplicate."""
    # A dict serves as a set that keeps the order.
    expected = dict.fromkeys(expected_ids)
    counts = Counter(name for name in ids if isinstance(name, str))
    ids_by_problem = {
        "narration_id is not a str": [name for name in ids if not isinstance(name, str)],
        "missing": [name for name in expected if name not in counts],
        "unexpected": [name for name in counts if name not in expected],
        "more than one entry for": [name for name, count in counts.items() if count > 1],
    }
    return [f"{problem}: {some_of(group)}" for problem, group in ids_by_problem.items() if group]
