"""Settings of the submission and of the page to browse."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from epic100.settings.section import Section, key
from epic100.settings.values import RunName, unique


class Supervision(Section):
    """Levels that the server asks for; a contradiction with the training is reported."""

    pt: int = key(2, "pretraining", ge=0, le=5)
    tl: int = key(3, "training labels", ge=0, le=5)
    td: int = key(3, "training data; 4 with train and val", ge=0, le=5)


class ExportSettings(Section):
    """The submission."""

    split: Literal["val", "test"] | None = key(
        None,
        "null: each file is for its own board; `val` or `test`: both are of it (below)",
        of_inputs=True,
    )
    reduce: Literal["logsumexp", "max", "heads", "joint"] | None = key(
        None,
        "`max`: best actions; `logsumexp`: best verbs and nouns; `heads`: the scores of heads for "
        "verbs and nouns; `joint`: best actions of both types of heads; null: `max` if the model "
        "has a head over pairs, else `heads`",
    )
    sls: Supervision = key(Supervision(), "supervision levels")


class BrowseSettings(Section):
    """The page to look at, `results/browse/index.html` (docs/browse.md)."""

    splits: list[Literal["train", "val", "test"]] = key(
        ["val"], "splits whose segments are listed; predictions and clips are of val"
    )
    runs: Annotated[list[RunName], AfterValidator(unique), Field(max_length=2)] = key(
        [],
        "one finished run to show, or two side by side, in `results/browse/`; `default` is the run "
        "without a name; []: this run, in its own folder",
    )
    max_mb: int = key(500, "maximum megabytes of clips; clips of wrong guesses come first", ge=0)

    @field_validator("splits", mode="after")
    @classmethod
    def _with_val(cls, splits: list[str]) -> list[str]:
        """Reject splits without val."""
        if "val" not in splits:
            raise ValueError("expected val among them, since the predictions are of val")
        return unique(splits)
