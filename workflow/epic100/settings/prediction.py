"""Settings of prediction on segments and whole videos, of features and of probes."""

from typing import Annotated, Literal

from pydantic import Field

from epic100.settings.section import Section, form, key
from epic100.settings.training import OnDevice
from epic100.settings.values import FilePath, Files, Grid, Heads, RunName, Seconds, Share, Some


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
        "crops of each clip: 1 (centre), 3 (along the long side), or `whole` (the whole picture, "
        "for models that take any size)",
    )
    batch_size: int | None = key(
        None,
        "segments a step; of their views as many go through the model together, or fewer if they "
        "do not fit into a GPU; null: 8 on a CPU and with an encoder of yours, 32 on a GPU",
        ge=1,
    )
    encoder: FilePath | None = key(
        None, "the folder of the encoder of a probe or of `hf_*.py`; null: where it was in training"
    )
    workers: int | None = key(
        None,
        "loader processes of each process; null: two on a CPU, and beside a GPU the job's cores "
        "divided by its processes, minus one",
        ge=0,
    )


class Windows(Section):
    """Where clips are in a whole video."""

    stride: Seconds = key(0.5, "seconds from clip to clip")
    window: Seconds | None = key(
        None,
        "seconds of a clip; null: what a dense clip spans, 2 s for frames spread over a segment",
    )


class TimelineSettings(Windows):
    """Whole videos, `results/timeline/{video_id}.tsv` (docs/timeline.md)."""

    smooth: float = key(
        1.0, "seconds over which probabilities are averaged; 0: not at all", ge=0, le=3600
    )
    threshold: float = key(0.2, "least mean probability of a segment's pair", ge=0, le=1)
    min_seconds: float = key(0.8, "length of the shortest segment", ge=0, le=3600)
    background: bool = key(
        False, "leave out where nothing happens, as learned from the gaps between train segments"
    )


class FeatureSettings(Windows):
    """Features of whole videos or of segments, in `results/features/` (docs/features.md)."""

    encoder: str = key(
        "model",
        "`model` (the trained one), `hf` (a folder of Hugging Face), or `module:Class`, an "
        "encoder of your own",
        pattern=form(
            "^(model|hf|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
            "model, hf or module:Class",
        ),
    )
    path: FilePath | None = key(None, "the folder of `encoder: hf`", of_inputs=True)
    grid: Grid = key(
        [8, 4],
        "`[time, side]`: for a probe, up to time x side x side tokens of each segment",
    )


class ProbeSettings(Section):
    """The model of this run is a probe on features of another run (docs/features.md)."""

    of: RunName | None = key(
        None, "the run whose model gives the features; null: the default run", of_inputs=True
    )
    kind: Literal["small", "attentive"] = key(
        "small", "`attentive`: four blocks of 16 heads, as in V-JEPA 2's evaluation"
    )
    device: Literal["cpu", "cuda"] = key("cpu", "where it is trained; `cuda`: on one GPU")
    heads: Heads = key("both", "what the last layer predicts, as `train.heads`")
    epochs: int = key(30, "passes over the training segments", ge=1)
    batch_size: int = key(64, "segments a step", ge=1)
    lr: Annotated[float, Field(gt=0)] | Some = key(
        0.001, "learning rate at the start, which falls to zero as a cosine, or a list to try"
    )
    weight_decay: Annotated[float, Field(ge=0)] | Some = key(
        0.05, "weight decay of AdamW, or a list to try"
    )
    choose: Literal["train", "val"] = key(
        "train",
        "what chooses among several rates and decays: a tenth of train's videos, held back, or "
        "`val`, as V-JEPA 2's evaluation does; the report says so",
    )
    dropout: Share = key(0.5, "dropout on the features and before the last layer")
    label_smoothing: Share = key(0.1, "share of each label that is spread over its head's classes")
    seed: int = key(0, "decides the first weights, the order and the dropout", ge=0)
