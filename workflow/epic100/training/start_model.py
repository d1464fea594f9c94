"""A model file of the start weights alone, for features without a training."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import init_default_scope

import epic100.training.registered  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.base.own_modules import use_modules
from epic100.model.model_file import TrainedModel, save_model
from epic100.segments.pairs import pairs_path, read_pairs
from epic100.settings import TrainSettings
from epic100.training.config import build_config, model_text
from epic100.training.weights import fit_weights, local_weights, read_weights

log = logging.getLogger(__name__)


def save_start_model(
    settings: TrainSettings,
    path: str | os.PathLike,
    *,
    results: str,
    video_root: str,
    classes: tuple[int, int],
    modules: Mapping[str, Any] | None = None,
) -> None:
    """Write the model of `train:` as it is before its first step. Its last layer is random.

    Args:
        settings: The `train:` section; `load_from` is a file.
        path: The model file to write.
        results: The folder that contains `clean/`.
        video_root: The folder of the videos.
        classes: Numbers of verb and noun classes.
        modules: The config's `modules` section.

    Raises:
        EpicError: The training would start from random weights, or the weights do not fit.
    """
    from mmaction.registry import MODELS

    if settings.load_from is None:
        raise EpicError(
            "config: `features: encoder:` is start, but `train:` starts from random weights; "
            "expected `train: load_from:` with weights, or `encoder: model`"
        )
    init_default_scope("mmaction")
    use_modules(modules)
    weights = local_weights(settings.load_from)
    settings = settings.model_copy(update={"heads": "pair", "load_from": weights})
    config = build_config(settings, results, video_root, classes=classes)
    torch.manual_seed(settings.seed)
    model = MODELS.build(config.model)
    state, found = model.state_dict(), read_weights(weights)
    log.info(f"{weights}: {fit_weights(weights, found, model).line()}")
    state |= {
        name: found[name].detach().clone()
        for name, value in state.items()
        if name in found and found[name].shape == value.shape
    }
    about = {"split": settings.split, "segments": 0, "epochs": 0, "seed": settings.seed,
             "load_from": weights}  # fmt: skip
    pairs = read_pairs(pairs_path(results, settings.split))
    save_model(TrainedModel(state, pairs, *classes, model_text(config), about), path)
