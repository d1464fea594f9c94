"""The `train:` section of the workflow's config, typed. The schema explains each key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ABOUT_WEIGHTS = ("from_scratch", "load_from_sha256")
# Keys that were added later: with these values a job has the parameters of older versions, so that
# their trainings stay valid.
NEW_KEYS = {"heads": None, "sampling": None, "crop": None, "nodes": 1}


@dataclass(frozen=True)
class CheckpointSettings:
    """When to save the state of a training, in addition to after each epoch.

    Args:
        iterations: Save after this many batches; None means never.
        seconds: Save this many seconds after the last save; None means never.
        keep: Number of newest checkpoints to keep.
    """

    iterations: int | None = None
    seconds: float | None = 600
    keep: int = 2


@dataclass(frozen=True)
class ValidateSettings:
    """Validation during training; None keeps the value of the MMEngine config.

    Args:
        every: Validate after this many epochs, and after the last one.
        segments: Number of segments to validate on, spread evenly over the val list.
    """

    every: int | None = None
    segments: int | None = None


@dataclass(frozen=True)
class TrainSettings:
    """The `train:` section; None keeps the value of the MMEngine config unless noted.

    Args:
        config: MMEngine config file.
        split: train, or trainval, which leaves no segment to validate on.
        load_from: Path or URL of the start weights.
        target_fps: Rate at which clips are sampled, in frames per second; None uses the video's.
        batch_size: Segments per step, over all processes and parts.
        workers: Loader processes of each training process.
        videos_at_once: Number of videos to draw segments from at a time (`VideoPoolSampler`).
        max_broken: Share (0 to 1) of clips that may fail to decode.
        options: Values of other keys of the MMEngine config, by dotted key. Applied last.
        device: auto, cuda or cpu.
        gpus: Number of processes on each node; on CUDA each has its own GPU.
        nodes: Number of nodes of a Slurm job.
        precision: fp32, bf16 or fp16 autocast.
        tf32: Whether float32 is multiplied as TF32, in convolutions and matrix products; None keeps
            torch's default: in convolutions only.
        channels_last: Whether the backbone's memory layout is channels-last; None means yes on a
            CPU, and the faster layout on a GPU.
        bn: BatchNorm's statistics: local (of each process), sync (over all) or frozen.
        accumulate: Number of parts that each batch is split into.
        patience_minutes: Minutes that a process waits for another one.
        scale_lr: Whether the learning rate is scaled with the batch size.
        logit_adjustment: Strength of `LogitAdjustedLoss`; 0 turns it off.
        ema: Decay of a moving average of the weights, which then becomes the model.
        dropout: Dropout before the last layer.
        heads: pair, verb_noun or both (`model.head_sizes.HEADS`); None is the MMEngine config's
            `heads`, or pair.
        sampling: dense or segment; None is the MMEngine config's `sampling`, or its pipelines.
        crop: random or resized, of the pictures that are trained on.
    """

    config: str
    split: str = "train"
    load_from: str | None = None
    target_fps: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    videos_at_once: int | None = None
    max_broken: float = 0.01
    seed: int = 0
    checkpoint: CheckpointSettings = CheckpointSettings()
    validate: ValidateSettings = ValidateSettings()
    options: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    gpus: int | None = None
    nodes: int = 1
    precision: str = "fp32"
    tf32: bool | None = None
    channels_last: bool | None = None
    compile: bool = False
    bn: str = "local"
    accumulate: int = 1
    patience_minutes: float = 30
    scale_lr: bool | None = None
    label_smoothing: float | None = None
    logit_adjustment: float = 0.0
    ema: float | None = None
    dropout: float | None = None
    heads: str | None = None
    sampling: str | None = None
    crop: str | None = None

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "TrainSettings":
        """Build the settings from a `train:` section that the schema has checked, or from `asdict`.

        The rule `weights` decides where start weights come from. Here `load_from` is a file, or
        None with `from_scratch`.
        """
        kept = {key: value for key, value in section.items() if key not in ABOUT_WEIGHTS}
        if section.get("from_scratch"):
            kept["load_from"] = None
        nested = {
            "checkpoint": CheckpointSettings(**section.get("checkpoint", {})),
            "validate": ValidateSettings(**section.get("validate", {})),
        }
        return cls(**{**kept, **nested})


def job_settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a complete `train:` section that makes a job train again if it changes.

    The start weights are left out. They are an input of the job, and a new path of the same file
    must not train again.
    """
    kept = {
        key: value
        for key, value in section.items()
        if key not in ABOUT_WEIGHTS and (key not in NEW_KEYS or value != NEW_KEYS[key])
    }
    return kept | {"load_from": None}
