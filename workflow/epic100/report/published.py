"""Published top-1 accuracies on EPIC-100's val split, to be shown beside a run."""

from dataclasses import dataclass

VAL_SEGMENTS = 9668  # in the official list; figures over other segments are not comparable


@dataclass(frozen=True)
class Published:
    """Top-1 of a published model in percent; sources: docs/recipe.md.

    Attributes:
        name: The model.
        verb: Verb accuracy.
        noun: Noun accuracy.
        action: Verb and noun both right, as the leaderboard counts.
        action_head: Accuracy of a head over verb-noun pairs, as LaViLa and AVION report it.
    """

    name: str
    verb: float | None
    noun: float | None
    action: float | None
    action_head: float | None


PUBLISHED = (
    Published("TSM, RGB", None, None, 35.75, None),
    Published("SlowFast", 65.6, 50.0, 38.5, None),
    Published("LaViLa TimeSformer-B", 69.0, 58.4, None, 46.9),
    Published("LaViLa TimeSformer-L", 72.0, 62.9, None, 51.0),
    Published("AVION ViT-B", 70.0, 59.4, None, 49.5),
    Published("AVION ViT-L", 73.0, 65.4, None, 54.4),
)
