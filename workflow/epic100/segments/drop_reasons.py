"""Why a segment is dropped: the kinds there are, and the sentence of each in `dropped.tsv`."""

import os
from enum import Enum

from epic100.base.text_table import read_table


class DropReason(Enum):
    """A kind of reason: what it is called, and the details that follow in a sentence."""

    EXCLUDED = "participant left out by the config", " (participants: {})"
    VIDEO_MISSING = "video missing", ""
    VIDEO_UNREADABLE = "video unreadable", ": {}"
    VIDEO_DAMAGED = "video damaged", ": {}"
    AFTER_THE_END = "starts after the video's end", " (frame {})"
    DAMAGED_FRAMES = "touches damaged frames", " {}-{} ({})"

    def sentence(self, *details: object) -> str:
        """The reason in full, with details such as frames and what the decoder reports."""
        kind, more = self.value
        return kind + more.format(*details)


def kind_of(sentence: str) -> str:
    """What a reason in `dropped.tsv` is called without its details.

    A sentence that none of the kinds begins is a kind of its own.
    """
    kinds = (reason.value[0] for reason in DropReason)
    return next((kind for kind in kinds if sentence.startswith(kind)), sentence)


def read_drop_kinds(path: str | os.PathLike, split: str) -> dict[str, str]:
    """Kinds of reason by narration_id, of one split, from `results/clean/dropped.tsv`.

    Raises:
        EpicError: No such file, or another one.
    """
    about = "the segments that the rule clean dropped, tab-separated narration_id split reason"
    rows = read_table(path, ("narration_id", "split", "reason"), about=about)
    return {row["narration_id"]: kind_of(row["reason"]) for _, row in rows if row["split"] == split}
