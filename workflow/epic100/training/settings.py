"""The `train:` section of the workflow's config, typed. Its schema has each key's meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ABOUT_WEIGHTS = ("from_scratch", "load_from_sha256")


@dataclass(frozen=True)
class CheckpointSettings:
    """When the state of a training is saved, besides after each epoch; None is never.

    Args:
        iterations: After so many batches.
        seconds: So long after the last save.
        keep: How many of the newest checkpoints stay.
    """

    iterations: int | None = None
    seconds: float | None = 600
    keep: int = 2


@dataclass(frozen=True)
class ValidateSettings:
    """Validation during training; None is as the MMEngine config says.

    Args:
        every: After so many epochs, and after the last.
        segments: On so many segments, spread evenly over the val list.
    """

    every: int | None = None
    segments: int | None = None


@dataclass(frozen=True)
class TrainSettings:
    """The `train:` section; None is as the MMEngine config says.

    Args:
        config: MMEngine config file.
        split: train, or trainval, which leaves no segment to validate on.
        load_from: Weights to start from, a path or URL.
        target_fps: Rate that clips are sampled at; None is the file's own.
        batch_size: Segments a step, over all processes and parts.
        workers: Loader processes of each training process.
        videos_at_once: Draw segments from so many videos at a time (`VideoPoolSampler`).
        max_broken: Share of clips that may fail to decode.
        options: Any other key of the MMEngine config, dotted, to its value. Set after all others.
        device: auto, cuda or cpu.
        gpus: Processes, on CUDA each with a GPU of its own.
        precision: fp32, bf16 or fp16 autocast.
        tf32: Whether float32 is multiplied as TF32, in convolutions and elsewhere; None is torch's
            own way: in convolutions alone.
        channels_last: Whether the backbone is laid out channels-last; None is yes on a CPU, and
            what is faster on a GPU.
        bn: BatchNorm's statistics: local (of each process), sync (over all) or frozen.
        accumulate: Parts that each batch is worked off in.
        patience_minutes: How long a process waits for another one.
        scale_lr: Whether the learning rate follows the batch size.
        logit_adjustment: Strength of `LogitAdjustedLoss`; 0 is off.
        ema: Decay of an average of the weights, which then is the model.
        dropout: Dropout before the last layer.
        heads: pair, verb_noun or both (`model.head_sizes.HEADS`).
        sampling: dense or segment; None is as the MMEngine config says.
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
    heads: str = "pair"
    sampling: str | None = None

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "TrainSettings":
        """The settings of a `train:` section that the schema has checked, or of `asdict`.

        The rule `weights` settles where start weights come from; here they are a file or, with
        `from_scratch`, none.
        """
        kept = {key: value for key, value in section.items() if key not in ABOUT_WEIGHTS}
        if section.get("from_scratch"):
            kept["load_from"] = None
        nested = {
            "checkpoint": CheckpointSettings(**section.get("checkpoint", {})),
            "validate": ValidateSettings(**section.get("validate", {})),
        }
        return cls(**{**kept, **nested})
