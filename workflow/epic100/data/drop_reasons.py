"""The reasons for which a segment is dropped, and the table `dropped.tsv` with them."""

import os
from collections import Counter
from enum import Enum

from epic100.base.text_table import read_own_table

COLUMNS = ("narration_id", "split", "reason")
DROPPED = "dropped.tsv"  # It is in the folder of the clean lists.


class DropReason(Enum):
    """A type of reason to drop a segment: its words, a format of the details, whether it is damage.

    Damage is found by the scan in a file. The other types are known before any file is opened.
    """

    EXCLUDED = "participant left out by the config", " (participants: {})", False
    VIDEO_MISSING = "video missing", "", False
    VIDEO_UNREADABLE = "video unreadable", ": {}", True
    VIDEO_DAMAGED = "video damaged", ": {}", True
    HELD_BACK = "video held back", ": {0}: {1}; to take it: `videos: accept: [{0}]`", True
    AFTER_THE_END = "starts after the video's end", " (frame {})", True
    DAMAGED_FRAMES = "touches damaged frames", " {}-{} ({})", True

    def __init__(self, reason_type: str, details: str, is_damage: bool):
        """Take a member's value apart, since the members above are tuples of these three."""
        self.reason_type, self.details, self.is_damage = reason_type, details, is_damage

    def sentence(self, *details: object) -> str:
        """Return the full reason: `touches damaged frames 3-9 (2 packets do not decode)`."""
        return self.reason_type + self.details.format(*details)

    @classmethod
    def of(cls, sentence: str) -> "DropReason | None":
        """Return the type of reason with which a sentence of `dropped.tsv` begins, or None."""
        return next((reason for reason in cls if sentence.startswith(reason.reason_type)), None)


def reason_type(sentence: str) -> str:
    """Return a reason of `dropped.tsv` without its details: `touches damaged frames`.

    A sentence of no known type is returned unchanged.
    """
    reason = DropReason.of(sentence)
    return reason.reason_type if reason else sentence


def is_damage(sentence: str) -> bool:
    """Whether a reason of `dropped.tsv` is damage. A sentence of no known type counts as damage."""
    reason = DropReason.of(sentence)
    return reason is None or reason.is_damage


def read_dropped(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read the dropped segments, `results/clean/dropped.tsv`, as dicts with the keys `COLUMNS`.

    Raises:
        EpicError: The file is missing or is not such a table.
    """
    about = f"the segments that the rule clean dropped, tab-separated {' '.join(COLUMNS)}"
    return read_own_table(path, dict.fromkeys(COLUMNS, str), about=about)


def held_back(path: str | os.PathLike) -> list[str]:
    """Return a line per video that is held back: `12 segments: video held back: P01_01: ...`."""
    # The reason names the video, so segments with equal reasons are of one video.
    reasons = Counter(row["reason"] for row in read_dropped(path))
    return [
        f"{count} segments: {reason}"
        for reason, count in reasons.items()
        if DropReason.of(reason) is DropReason.HELD_BACK
    ]


def read_drop_types(path: str | os.PathLike, split: str) -> dict[str, str]:
    """Return the type of reason of each dropped segment of a split, by narration_id.

    Raises:
        EpicError: The table cannot be read (`read_dropped`).
    """
    return {
        row["narration_id"]: reason_type(row["reason"])
        for row in read_dropped(path)
        if row["split"] == split
    }
