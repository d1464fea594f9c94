"""The reasons for which a segment is dropped, and how `dropped.tsv` writes each of them."""

import os
from enum import Enum

from epic100.base.text_table import read_own_table

COLUMNS = ("narration_id", "split", "reason")


class DropReason(Enum):
    """A kind of reason. The value is its name and the format of the details after it."""

    EXCLUDED = "participant left out by the config", " (participants: {})"
    VIDEO_MISSING = "video missing", ""
    VIDEO_UNREADABLE = "video unreadable", ": {}"
    VIDEO_DAMAGED = "video damaged", ": {}"
    AFTER_THE_END = "starts after the video's end", " (frame {})"
    DAMAGED_FRAMES = "touches damaged frames", " {}-{} ({})"

    def sentence(self, *details: object) -> str:
        """Write the full reason, with details such as frames or the decoder's message."""
        kind, more = self.value
        return kind + more.format(*details)


def kind_of(sentence: str) -> str:
    """Return the kind of a reason in `dropped.tsv`: its text without the details.

    A text that starts with no known kind is returned whole.
    """
    kinds = (reason.value[0] for reason in DropReason)
    return next((kind for kind in kinds if sentence.startswith(kind)), sentence)


def read_dropped(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read `results/clean/dropped.tsv`: its rows by `COLUMNS`.

    Raises:
        EpicError: The file is missing or is not such a table.
    """
    about = f"the segments that the rule clean dropped, tab-separated {' '.join(COLUMNS)}"
    return read_own_table(path, dict.fromkeys(COLUMNS, str), about=about)


def read_drop_kinds(path: str | os.PathLike, split: str) -> dict[str, str]:
    """The kind of reason by narration_id, for one split. Raises EpicError as `read_dropped`."""
    rows = read_dropped(path)
    return {row["narration_id"]: kind_of(row["reason"]) for row in rows if row["split"] == split}
