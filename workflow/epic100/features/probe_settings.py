"""The `probe:` section of the config."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe learns from features.

    Args:
        heads: pair, verb_noun or both (`model.head_sizes.HEADS`).
        epochs: Passes over the training segments.
        batch_size: Segments per step.
        lr: Learning rate at the start; it falls to zero as a cosine.
        weight_decay: Of AdamW.
        dropout: On the features and before the last layer.
        label_smoothing: Share of each label that is spread over its head's classes.
        seed: Decides the first weights, the order and the dropout.
    """

    heads: str = "both"
    epochs: int = 30
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    label_smoothing: float = 0.1
    seed: int = 0
