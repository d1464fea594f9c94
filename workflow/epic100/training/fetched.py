"""Compare start weights that were just fetched with the model, before any video is scanned."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import init_default_scope
from torch import nn

import epic100.training.registered  # noqa: F401  (registers what the config names)
from epic100.base.own_modules import use_modules
from epic100.settings import TrainSettings
from epic100.training.config import build_config
from epic100.training.small_lists import raw_pairs, stand_in, write_small_results
from epic100.training.trial import lists_are_in
from epic100.training.weights import fit_weights, read_weights


def check_fetched(
    path: str | os.PathLike,
    settings: TrainSettings,
    classes: tuple[int, int],
    modules: Mapping[str, Any] | None = None,
) -> str:
    """Check that weights are whole and of the model that `settings` trains.

    Args:
        path: The weights.
        settings: The `train:` section.
        classes: Numbers of verb and noun classes.
        modules: The config's `modules` section.

    Returns:
        How they fit; "" if the MMEngine config reads lists that are not made yet.

    Raises:
        EpicError: The file cannot be read, or is of another model.
    """
    model = untrained_model(settings, classes, modules)
    return fit_weights(path, read_weights(path), model).line() if model else ""


def untrained_model(
    settings: TrainSettings, classes: tuple[int, int], modules: Mapping[str, Any] | None = None
) -> nn.Module | None:
    """Build the model with a table of a few pairs; None if the config reads lists of its own."""
    from mmaction.registry import MODELS

    init_default_scope("mmaction")
    use_modules(modules)
    settings = settings.model_copy(update={"load_from": None})
    with tempfile.TemporaryDirectory(prefix="epic100_weights_") as name:
        segments = stand_in()
        write_small_results(Path(name), settings.split, segments, segments, raw_pairs(segments))
        if not lists_are_in(settings, Path(name)):
            return None
        config = build_config(settings, name, name, classes=classes)
        return MODELS.build(config.model)
