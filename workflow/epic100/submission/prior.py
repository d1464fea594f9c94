"""Segments without a prediction: all get the same scores, so too many make a submission worthless.

They get the training prior, the best guess without a picture, which is right for about one action
in a hundred. A file does not mark these segments, but no other segments have all scores equal.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.segments.drop_reasons import read_drop_kinds
from epic100.submission.check import HINT, OUTPUTS

MOST = 0.5  # a larger share of segments with the prior is a problem


def prior_words(ids: Sequence[str], total: int, dropped: str | os.PathLike, split: str) -> str:
    """Describe how many segments have the prior, and why.

    Args:
        ids: The segments without a prediction.
        total: Number of segments in the split.
        dropped: results/clean/dropped.tsv; if the file is missing, no reasons are given.
        split: `val` or `test`.
    """
    kinds = read_drop_kinds(dropped, split) if Path(dropped).is_file() else {}
    counts = Counter(kinds.get(name, "no reason in dropped.tsv") for name in ids)
    why = ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) if kinds else ""
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
        entries: Entries from `submission.build` or `read_pt`.
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
