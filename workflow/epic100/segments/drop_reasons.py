"""Why a segment is dropped: the kinds there are, and the sentence of each in `dropped.tsv`."""

from enum import Enum


class DropReason(Enum):
    """A kind of reason: what it is called, and the details that follow in a sentence."""

    EXCLUDED = "participant left out by the config", " (participants: exclude)"
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
