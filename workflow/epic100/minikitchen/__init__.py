"""The mini kitchen: a small data set like EPIC-KITCHENS-100, whose videos are drawn and damaged."""

from epic100.minikitchen.kitchen import (
    NOUNS,
    PAIRS,
    UNSEEN_PAIR,
    VERBS,
    schedule,
    write_annotations,
    write_video,
)

__all__ = [
    "NOUNS",
    "PAIRS",
    "UNSEEN_PAIR",
    "VERBS",
    "schedule",
    "write_annotations",
    "write_video",
]
