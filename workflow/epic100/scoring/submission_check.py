"""Check a submission before upload: one line per problem that the server would report.

A line that starts with HINT is no error for the server, but is rarely intended. Segments without a
prediction are such a case: all have the same scores, the training prior. It is the best guess
without a frame and right for about one action in a hundred, so too many of them make a submission
worthless. A file does not mark these segments, but no other segments have all scores equal.

Supervision levels (SLS): Damen and Wray, Supervision Levels Scale, arXiv 2008.09890;
github.com/epic-kitchens/sls.
"""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from epic100.base.errors import printable
from epic100.data.segment_list import read_drop_types

OUTPUTS = ("verb_output", "noun_output")
HINT = "hint: "
# If a larger share of the segments, 0 to 1, has the training prior, this is a problem.
MAX_PRIOR_SHARE = 0.5
# These words in the name of a weights file show that the weights were trained on videos.
VIDEO_DATA = ("kinetics", "k400", "k600", "k700", "ssv2", "sthv2", "something")

# A float32 below the exponential of this, its smallest number, becomes 0.
_SMALLEST = math.log(1.4e-45)


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
    # The log-probability of each segment's best class, a tensor for each key without defects.
    best_log_probs: list[torch.Tensor] = []
    for key, size in zip(OUTPUTS, (num_verbs, num_nouns), strict=True):
        names, rows, segments_of_defect = _rows_of(entries, key, size)
        is_tied = (rows == rows.amax(dim=1, keepdim=True)).sum(dim=1) > 1
        if size > 1 and is_tied.any():
            equal_count = int((rows[is_tied] == rows[is_tied][:, :1]).all(dim=1).sum())
            problems.append(
                f"{HINT}{key} has several classes tied for the highest score in"
                f" {some_of(_names_where(names, is_tied))}; all classes in {equal_count} of them"
            )
        not_finite = _names_where(names, ~rows.isfinite().all(dim=1))
        if not_finite:
            segments_of_defect["holds NaN or infinity"] = not_finite
        problems += [
            f"{key} {defect} in {some_of(segments)}"
            for defect, segments in segments_of_defect.items()
        ]
        if not segments_of_defect:
            # The official softmax is over the scores of all segments together.
            rows = rows.double()
            best_log_probs.append(rows.amax(dim=1) - rows.flatten().logsumexp(0))
    # Without defects, both keys have a row for each entry. A sum of both is the log-probability of
    # the best action, and no other action of the segment has a higher one.
    if len(best_log_probs) == len(OUTPUTS) and (
        zeroed := _names_where(names, torch.stack(best_log_probs).sum(dim=0) < _SMALLEST)
    ):
        problems.append(
            f"{HINT}all action scores become 0 in {some_of(zeroed)}: the official evaluator takes"
            " one softmax over all rows; give row-normalised log-probabilities"
        )
    return sorted(problems, key=lambda line: line.startswith(HINT))


def _rows_of(
    entries: Sequence[Mapping[str, Any]], key: str, size: int
) -> tuple[list[str], torch.Tensor, dict[str, list[str]]]:
    """Stack the scores of the entries that have the right shape and dtype.

    Args:
        entries: One dict per segment.
        key: `verb_output` or `noun_output`.
        size: Scores that each entry must have.

    Returns:
        The ids of the entries with good scores; their scores, float32 [N, size]; and the ids of the
        other entries by their defect.
    """
    segments_of_defect: defaultdict[str, list[str]] = defaultdict(list)
    names: list[str] = []
    # The empty rows make `torch.cat` work if no entry has scores of the right shape.
    good_rows = [torch.empty(0, size)]
    for entry in entries:
        name = str(entry["narration_id"])
        scores = entry[key].detach().cpu()
        if tuple(scores.shape) != (size,):
            segments_of_defect[f"has shape {list(scores.shape)}, expected [{size}]"].append(name)
        elif scores.dtype != torch.float32:
            defect = f"is {str(scores.dtype).removeprefix('torch.')}, expected float32"
            segments_of_defect[defect].append(name)
        else:
            names.append(name)
            good_rows.append(scores[None])
    return names, torch.cat(good_rows), segments_of_defect


def contradictions(sls: Mapping[str, int], trained_on: Mapping[str, Any]) -> list[str]:
    """List the supervision levels that contradict the training, one sentence each.

    Args:
        sls: Levels `pt` (pretraining), `tl` (training labels) and `td` (training data).
        trained_on: As in `model_file.TrainedModel`; only `split` and `load_from` are used.
    """
    weights = trained_on.get("load_from")
    split = trained_on.get("split")
    sentences = []
    if not weights and sls["pt"] != 0:
        sentences.append(f"pt is {sls['pt']}, but the model was trained from scratch: 0")
    if weights and sls["pt"] == 0:
        sentences.append(f"pt is 0, but training started from {weights}: 2 for Kinetics weights")
    if weights and sls["pt"] == 1 and any(word in str(weights).lower() for word in VIDEO_DATA):
        sentences.append(f"pt is 1 (images only), but {weights} learned from videos: 2")
    if sls["tl"] < 3:
        sentences.append(f"tl is {sls['tl']}, but start and end of each segment were used: 3")
    true_level = {"train": 3, "trainval": 4}.get(str(split))
    if true_level and sls["td"] != true_level:
        sentences.append(f"td is {sls['td']}, but the model was trained on {split}: {true_level}")
    return [f"export: sls: {sentence}" for sentence in sentences]


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


def ids_with_prior(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Find the segments with the training prior: the largest group with the same scores.

    A model computes no two segments alike to the last bit. Segments without a prediction are.

    Returns:
        The narration ids of the group; [] if the scores of all segments differ.
    """
    ids_by_scores = defaultdict(list)
    for entry in entries:
        scores = b"".join(entry[key].detach().cpu().numpy().tobytes() for key in OUTPUTS)
        ids_by_scores[scores].append(str(entry["narration_id"]))
    largest = max(ids_by_scores.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def prior_problems(
    entries: Sequence[Mapping[str, Any]], dropped: str | os.PathLike, split: str, max_share: float
) -> list[str]:
    """Report the segments that have the training prior: a problem, a hint or nothing.

    These segments had no prediction, and got the frequencies of the classes in train.

    Args:
        entries: Entries from `files.build` or `files.read_submission`.
        dropped: results/clean/dropped.tsv.
        split: `val` or `test`.
        max_share: Share of the entries, 0 to 1. Above it the line is a problem, otherwise a hint.

    Returns:
        One line, or none if no segments share all scores.
    """
    ids = ids_with_prior(entries)
    if not ids:
        return []
    words = f"all scores are the same in {prior_words(ids, len(entries), dropped, split)}"
    if len(ids) <= max_share * len(entries):
        return [f"{HINT}{words}"]
    return [
        f"{words}; expected at most {max_share:.0%}: bring the videos and predict again, or send "
        "it as it is and check with --allow-prior 1"
    ]


def shortened(text: str) -> str:
    """Shorten text from a file so that it fits one line of a terminal."""
    return printable(text if len(text) <= 80 else f"{text[:77]}...")


def some_of(names: Sequence[Any]) -> str:
    """Count segments and name the first three: `4 segments (P01_01_0, P01_01_1, P01_01_2, ...)`."""
    shown = ", ".join(shortened(str(name)) for name in names[:3])
    dots = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {'segment' if len(names) == 1 else 'segments'} ({shown}{dots})"


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


def _names_where(names: Sequence[str], mask: torch.Tensor) -> list[str]:
    """Select the names where the mask, bool [N], is true."""
    return [names[row] for row in mask.nonzero().flatten().tolist()]
