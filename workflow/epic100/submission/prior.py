"""Segments without a prediction: all have the same scores, and a submission of those is worthless.

They get the training prior, which is the best guess without a picture and right for about one
action in a hundred. A file does not mark them, but no other segments share all their scores.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.segments.drop_reasons import read_drop_kinds
from epic100.submission.check import HINT, OUTPUTS

MOST = 0.5  # the share of segments that may have the prior before it is called a problem


def prior_words(ids: Sequence[str], total: int, dropped: str | os.PathLike, split: str) -> str:
    """How many segments have the prior, and why.

    Args:
        ids: The segments without a prediction.
        total: How many segments the split has.
        dropped: results/clean/dropped.tsv; where it is absent, the reasons are left out.
        split: `val` or `test`.
    """
    kinds = read_drop_kinds(dropped, split) if Path(dropped).is_file() else {}
    counts = Counter(kinds.get(name, "no reason in dropped.tsv") for name in ids)
    why = ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) if kinds else ""
    share = len(ids) / max(total, 1)
    return f"{len(ids)} of {total} segments ({share:.1%}) without a prediction{why and ': '}{why}"


def with_prior(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Ids of the largest group of entries with the same verb and noun scores, [] for none."""
    groups = defaultdict(list)
    for entry in entries:
        row = b"".join(entry[key].detach().cpu().numpy().tobytes() for key in OUTPUTS)
        groups[row].append(str(entry["narration_id"]))
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def prior_problems(
    entries: Sequence[Mapping[str, Any]], dropped: str | os.PathLike, split: str, most: float
) -> list[str]:
    """A line where entries have the prior: a problem for a share above `most`, else a hint."""
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
