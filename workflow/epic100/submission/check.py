"""Check a submission before upload: one line per problem that the server would report.

Lines that start with HINT are not errors for the server, but are rarely intended. Segments without
a prediction are one: all have the same scores, the training prior. It is the best guess without a
picture and right for about one action in a hundred, so too many of them make a submission
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

from epic100.base.names import printable
from epic100.segments.drop_reasons import read_drop_kinds

OUTPUTS = ("verb_output", "noun_output")
HINT = "hint: "
MOST = 0.5  # A larger share of segments with the prior is a problem.
# These words in the name of a weights file show that the weights were trained on videos.
VIDEO_DATA = ("kinetics", "k400", "k600", "k700", "ssv2", "sthv2", "something")

_SMALLEST = math.log(1.4e-45)  # A smaller float32 becomes 0.


def check(
    entries: Sequence[Mapping[str, Any]],
    expected_ids: Iterable[str],
    num_verbs: int,
    num_nouns: int,
) -> list[str]:
    """List problems of entries from `files.build` or `files.read_submission`.

    Reports missing, unexpected and duplicate ids, wrong shapes and dtypes, NaN and infinity. Hints
    report ties for the highest score and rows that become 0 in the official softmax.

    Args:
        entries: One dict per segment: `narration_id`, `verb_output` and `noun_output`.
        expected_ids: The narration ids of the split.
        num_verbs: Scores that each `verb_output` must have.
        num_nouns: Scores that each `noun_output` must have.

    Returns:
        One line per problem, hints last; empty if there are none.
    """
    problems = _id_problems([entry["narration_id"] for entry in entries], expected_ids)
    log_shares: list[torch.Tensor] = []
    for key, size in zip(OUTPUTS, (num_verbs, num_nouns), strict=True):
        faults: defaultdict[str, list[str]] = defaultdict(list)
        names, good = [], [torch.empty(0, size)]
        for entry in entries:
            scores, name = entry[key].detach().cpu(), str(entry["narration_id"])
            if tuple(scores.shape) != (size,):
                faults[f"has shape {list(scores.shape)}, expected [{size}]"].append(name)
            elif scores.dtype != torch.float32:
                dtype = str(scores.dtype).removeprefix("torch.")
                faults[f"is {dtype}, expected float32"].append(name)
            else:
                names.append(name)
                good.append(scores[None])
        rows = torch.cat(good)
        tied = (rows == rows.amax(dim=1, keepdim=True)).sum(dim=1) > 1
        if size > 1 and tied.any():
            equal = int((rows[tied] == rows[tied][:, :1]).all(dim=1).sum())
            problems.append(
                f"{HINT}{key} has several classes tied for the highest score in"
                f" {some_of(_chosen(names, tied))}; all classes in {equal} of them"
            )
        if bad := _chosen(names, ~rows.isfinite().all(dim=1)):
            faults["holds NaN or infinity"] = bad
        problems += [f"{key} {fault} in {some_of(segments)}" for fault, segments in faults.items()]
        if not faults:
            rows = rows.double()
            log_shares.append(rows.amax(dim=1) - rows.flatten().logsumexp(0))
    if len(log_shares) == 2 and (lost := _chosen(names, log_shares[0] + log_shares[1] < _SMALLEST)):
        problems.append(
            f"{HINT}all action scores become 0 in {some_of(lost)}: the official evaluator takes"
            " one softmax over all rows; give row-normalised log-probabilities"
        )
    return sorted(problems, key=lambda line: line.startswith(HINT))


def contradictions(sls: Mapping[str, int], trained_on: Mapping[str, Any]) -> list[str]:
    """List the levels that cannot be true of the model, one sentence each.

    Args:
        sls: Levels `pt` (pretraining), `tl` (training labels) and `td` (training data).
        trained_on: As in `model_file.TrainedModel`; only `split` and `load_from` are used.
    """
    weights, split = trained_on.get("load_from"), trained_on.get("split")
    sentences = []
    if not weights and sls["pt"] != 0:
        sentences.append(f"pt is {sls['pt']}, but the model was trained from scratch: 0")
    if weights and sls["pt"] == 0:
        sentences.append(f"pt is 0, but training started from {weights}: 2 for Kinetics weights")
    if weights and sls["pt"] == 1 and any(word in str(weights).lower() for word in VIDEO_DATA):
        sentences.append(f"pt is 1 (images only), but {weights} learned from videos: 2")
    if sls["tl"] < 3:
        sentences.append(f"tl is {sls['tl']}, but start and end of each segment were used: 3")
    least = {"train": 3, "trainval": 4}.get(str(split))
    if least and sls["td"] != least:
        sentences.append(f"td is {sls['td']}, but the model was trained on {split}: {least}")
    return [f"export: sls: {sentence}" for sentence in sentences]


def prior_words(ids: Sequence[str], total: int, dropped: str | os.PathLike, split: str) -> str:
    """Describe how many segments have the prior, and why.

    Args:
        ids: The segments without a prediction.
        total: Number of segments in the split.
        dropped: results/clean/dropped.tsv; if the file is missing, no reasons are given.
        split: `val` or `test`.
    """
    reasons = read_drop_kinds(dropped, split) if Path(dropped).is_file() else {}
    counts = Counter(reasons.get(name, "no reason in dropped.tsv") for name in ids)
    why = (
        ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) if reasons else ""
    )
    share = len(ids) / max(total, 1)
    return f"{len(ids)} of {total} segments ({share:.1%}) without a prediction{why and ': '}{why}"


def with_prior(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Find entries that share the training prior.

    Returns:
        The ids of the largest group with equal verb and noun scores; [] if all entries differ.
    """
    groups = defaultdict(list)
    for entry in entries:
        row = b"".join(entry[key].detach().cpu().numpy().tobytes() for key in OUTPUTS)
        groups[row].append(str(entry["narration_id"]))
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def prior_problems(
    entries: Sequence[Mapping[str, Any]], dropped: str | os.PathLike, split: str, most: float
) -> list[str]:
    """Report entries that have the prior in one line.

    Args:
        entries: Entries from `files.build` or `files.read_submission`.
        dropped: results/clean/dropped.tsv.
        split: `val` or `test`.
        most: Share of the entries, 0 to 1. Above it the line is a problem, otherwise a hint.
    """
    ids = with_prior(entries)
    if not ids:
        return []
    words = f"all scores are the same in {prior_words(ids, len(entries), dropped, split)}"
    if len(ids) <= most * len(entries):
        return [f"{HINT}{words}"]
    return [
        f"{words}; expected at most {most:.0%}: bring the videos and predict again, or send it as "
        "it is and check with --allow-prior 1"
    ]


def shortened(text: str) -> str:
    """Shorten text from a file so that it fits one line of a terminal."""
    return printable(text if len(text) <= 80 else f"{text[:77]}...")


def some_of(names: Sequence[Any]) -> str:
    """Write how many segments there are, and the first three."""
    shown = ", ".join(shortened(str(name)) for name in names[:3])
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} segment{'s' * (len(names) != 1)} ({shown}{more})"


def _id_problems(ids: Sequence[Any], expected_ids: Iterable[str]) -> list[str]:
    expected = dict.fromkeys(expected_ids)
    counts = Counter(i for i in ids if isinstance(i, str))
    groups = {
        "narration_id is not a str": [i for i in ids if not isinstance(i, str)],
        "missing": [i for i in expected if i not in counts],
        "unexpected": [i for i in counts if i not in expected],
        "more than one entry for": [i for i, count in counts.items() if count > 1],
    }
    return [f"{name}: {some_of(group)}" for name, group in groups.items() if group]


def _chosen(names: Sequence[str], mask: torch.Tensor) -> list[str]:
    return [names[i] for i in mask.nonzero().flatten().tolist()]
