"""The reasons for which a segment is dropped, and `dropped.tsv`, which has one for each."""

import os
from collections import Counter
from enum import Enum

from epic100.base.text_table import read_own_table

COLUMNS = ("narration_id", "split", "reason")
DROPPED = "dropped.tsv"  # It is in the folder of the clean lists.


class DropReason(Enum):
    """A kind of reason: its name, the format of the details after it, and whether it is damage.

    Damage is what the scan finds in a file. The rest is known before any file is opened.
    """

    EXCLUDED = "participant left out by the config", " (participants: {})", False
    VIDEO_MISSING = "video missing", "", False
    VIDEO_UNREADABLE = "video unreadable", ": {}", True
    VIDEO_DAMAGED = "video damaged", ": {}", True
    HELD_BACK = "video held back", ": {0}: {1}; to take it: `videos: accept: [{0}]`", True
    AFTER_THE_END = "starts after the video's end", " (frame {})", True
    DAMAGED_FRAMES = "touches damaged frames", " {}-{} ({})", True

    def __init__(self, kind: str, details: str, is_damage: bool):
        self.kind, self.details, self.is_damage = kind, details, is_damage

    def sentence(self, *details: object) -> str:
        """Write the full reason, with details such as frames or the decoder's message."""
        return self.kind + self.details.format(*details)

    @classmethod
    def of(cls, sentence: str) -> "DropReason | None":
        """Return the reason that a sentence of `dropped.tsv` gives; None if it is none of these."""
        return next((reason for reason in cls if sentence.startswith(reason.kind)), None)


def kind_of(sentence: str) -> str:
    """Return the kind of a reason in `dropped.tsv`: its text without the details.

    A text that starts with no known kind is returned whole.
    """
    reason = DropReason.of(sentence)
    return reason.kind if reason else sentence


def is_damage(sentence: str) -> bool:
    """Whether a reason, or its kind, is damage. A text of no known kind counts as damage."""
    reason = DropReason.of(sentence)
    return reason is None or reason.is_damage


def read_dropped(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read `results/clean/dropped.tsv`: its rows by `COLUMNS`.

    Raises:
        EpicError: The file is missing or is not such a table.
    """
    about = f"the segments that the rule clean dropped, tab-separated {' '.join(COLUMNS)}"
    return read_own_table(path, dict.fromkeys(COLUMNS, str), about=about)


def held_back(path: str | os.PathLike) -> list[str]:
    """A sentence of `dropped.tsv` for each video that is held back, with its segments' number."""
    reasons = Counter(row["reason"] for row in read_dropped(path))
    return [
        f"{count} segments: {reason}"
        for reason, count in reasons.items()
        if DropReason.of(reason) is DropReason.HELD_BACK
    ]


def read_drop_kinds(path: str | os.PathLike, split: str) -> dict[str, str]:
    """The kind of reason by narration_id, for one split. Raises EpicError as `read_dropped`."""
    rows = read_dropped(path)
    return {row["narration_id"]: kind_of(row["reason"]) for row in rows if row["split"] == split}
