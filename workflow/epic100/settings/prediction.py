"""Settings of prediction on segments and complete videos, features, submission and pages."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from epic100.settings.section import FilePath, Files, RunName, Seconds, Section, key, like, unique
from epic100.settings.training import OnDevice


class PredictSettings(OnDevice):
    """Views of a segment, averaged as probabilities."""

    model: FilePath | None = key(
        None,
        "a finished model to predict with, e.g. a lab's (docs/migration.md); null: train one",
        of_inputs=True,
    )
    models: Files = key(
        [],
        "finished models whose probabilities are averaged; their pair tables may differ",
        of_inputs=True,
    )
    clips: int | None = key(
        None,
        "clips, spread evenly over the segment; null: 10 for dense clips, 1 for frames spread over "
        "the segment",
        ge=1,
    )
    crops: Literal[1, 3, "whole"] = key(
        1,
        "crops of each clip: 1 (centre), 3 (along the long side), or `whole` (the full frame, "
        "for models that take any size)",
    )
    batch_size: int | None = key(
        None,
        "segments a step; of their views as many go through the model together, or fewer if they "
        "do not fit into a GPU; null: 8 on a CPU and with an encoder of yours, 32 on a GPU",
        ge=1,
    )
    encoder: FilePath | None = key(
        None,
        "where the folder of an `hf_*.py` model's encoder is now; null: where it was in training",
        of_inputs=True,
    )
    workers: int | None = key(
        None,
        "loader processes of each process; null: two on a CPU, and beside a GPU the job's cores "
        "divided by its processes, minus one",
        ge=0,
    )


class Windows(Section):
    """Where clips are in a complete video."""

    stride: Seconds = key(0.5, "seconds from clip to clip")
    window: Seconds | None = key(
        None,
        "seconds of a clip; null: what a dense clip spans, 2 s for frames spread over a segment",
    )


class TimelineSettings(Windows):
    """Complete videos, `results/timeline/{video_id}.tsv` (docs/timeline.md)."""

    smooth: float = key(
        1.0, "seconds over which probabilities are averaged; 0: not at all", ge=0, le=3600
    )
    threshold: float = key(0.2, "minimum mean probability of a segment's pair", ge=0, le=1)
    min_seconds: float = key(0.8, "length of the shortest segment", ge=0, le=3600)
    background: bool = key(
        False, "leave out where nothing happens, as learned from the gaps between train segments"
    )


Encoder = Annotated[
    str,
    AfterValidator(
        like("model|hf|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*", "model, hf or module:Class")
    ),
]


class FeatureSettings(Windows):
    """Features of complete videos, in `results/features/` (docs/features.md)."""

    encoder: Encoder = key(
        "model",
        "`model` (the trained one), `hf` (a folder of Hugging Face), or `module:Class`, an "
        "encoder of your own",
    )
    path: FilePath | None = key(None, "the folder of `encoder: hf`", of_inputs=True)


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
