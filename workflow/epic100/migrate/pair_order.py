"""Which verb-noun pair each output of a lab's head means.

A checkpoint does not contain this. It comes from a text file, or from the train list that the lab
made its table from.
"""

import os
import re
from collections import Counter
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.segments.segment_list import NO_LABEL, read_segments

Pair = tuple[int, int]


def read_pair_order(path: str | os.PathLike) -> list[Pair]:
    """Read the pair of each output from a text file with one pair per line.

    Numbers are separated by spaces, tabs or commas; a header is optional. The forms are `verb noun`
    (the output is the line number), `output verb noun` or `verb noun output` (outputs from 0 in any
    order), and `output verb noun count`.

    Returns:
        (verb, noun) by output.

    Raises:
        EpicError: A line has another form; the message names it.
    """
    expected = (
        "a pair a line: `verb noun`, `output verb noun`, `verb noun output`, or "
        "`output verb noun count`"
    )
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EpicError(f"{path}: cannot be read as text ({error}); expected {expected}") from error
    rows: list[tuple[int, ...]] = []
    for number, line in enumerate(lines, start=1):
        fields = re.split(r"[\s,;]+", line.strip())
        if fields == [""] or (not rows and not any(f.isdigit() for f in fields)):
            continue  # empty line or header
        good = all(f.isascii() and f.isdigit() for f in fields) and 2 <= len(fields) <= 4
        if not good or (rows and len(fields) != len(rows[0])):
            raise EpicError(f"{path}: line {number}: {line.strip()[:80]!r}; expected {expected}")
        rows.append(tuple(map(int, fields)))
    if rows and len(rows[0]) == 2:
        rows = [(output, *pair) for output, pair in enumerate(rows)]
    for output, verb, noun in ((0, 1, 2), (2, 0, 1)):
        if rows and sorted(row[output] for row in rows) == list(range(len(rows))):
            pairs = [(row[verb], row[noun]) for row in sorted(rows, key=lambda row: row[output])]
            break
    else:
        raise EpicError(
            f"{path}: {len(rows)} pairs, and no column that counts their outputs from 0 to "
            f"{len(rows) - 1}, each once; expected {expected}"
        )
    for (verb, noun), count in Counter(pairs).items():
        if count > 1:
            raise EpicError(
                f"{path}: verb {verb} with noun {noun} is there twice; expected each pair once, "
                "since each is an output of the head"
            )
    return pairs


def order_of_list(path: str | os.PathLike, order: str) -> tuple[list[Pair], Counter]:
    """Read the pairs of a train list and their counts.

    Args:
        path: The list, five or six fields per line.
        order: `sorted` by verb, then noun; or `first-seen`, in order of appearance.

    Returns:
        (verb, noun) by output, and the number of segments of each pair.

    Raises:
        EpicError: No line has a verb and a noun.
    """
    table = read_segments(path)
    table = table[(table["verb"] != NO_LABEL) & (table["noun"] != NO_LABEL)]
    counts = Counter(zip(table["verb"].tolist(), table["noun"].tolist(), strict=True))
    if not counts:
        raise EpicError(f"{path}: no line with a verb and a noun; expected a train list")
    return (sorted(counts) if order == "sorted" else list(counts)), counts
