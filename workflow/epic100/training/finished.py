"""The model of a finished run: made, kept in its work directory, and taken from there again.

Snakemake removes the outputs of a job before it starts, so `results/model.pth` cannot be the only
copy: another setting that is tried for an hour would cost the model of a day.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch import Tensor

from epic100.base.atomic import copy_file
from epic100.base.torch_file import BrokenFile
from epic100.model.model_file import TrainedModel, load_model
from epic100.training.checkpoints import set_aside
from epic100.training.config import model_config
from epic100.training.epoch_table import FILE as EPOCHS
from epic100.training.hooks import bare

log = logging.getLogger(__name__)

FILE = "model.pth"


def trained_model(
    runner: Runner,
    config: Config,
    pairs: list[tuple[int, int, int]],
    classes: tuple[int, int],
    trained_on: dict,
    names: Mapping[str, Mapping[int, str]] | None = None,
) -> TrainedModel:
    """The model of a runner whose training is over.

    Args:
        runner: The runner.
        config: The config that it was built from.
        pairs: The pair table: verb, noun and count.
        classes: Number of verb classes and number of noun classes.
        trained_on: What the model file says about its training.
        names: Class names by task and class id.
    """
    return TrainedModel(
        state_dict=final_weights(runner),
        pairs=pairs,
        num_verbs=classes[0],
        num_nouns=classes[1],
        config=model_config(config),
        trained_on=trained_on,
        heads=config.model.cls_head.heads,
        names=names or {},
    )


def final_weights(runner: Runner) -> dict[str, Tensor]:
    """The weights at the end of training, on the CPU: the moving average if there is one.

    Buffers (BatchNorm's statistics) are the model's own, which the processes share at the end of an
    epoch. Those of the average belong to one process only.
    """
    model = bare(runner.model)
    weights = model.state_dict()
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            weights |= dict(hook.ema_model.module.named_parameters())
    return {key: value.detach().cpu().clone() for key, value in weights.items()}


def has_model(work_dir: str | os.PathLike) -> bool:
    """Whether the run of this work directory is finished, and its model is intact.

    A broken file is renamed to `model.broken`; then the run resumes from its last checkpoint.

    Args:
        work_dir: The work directory, whose name stands for all that the weights depend on.
    """
    path = Path(work_dir) / FILE
    if not path.is_file():
        return False
    try:
        load_model(path)
    except BrokenFile as error:
        set_aside(path, error)
        return False
    return (path.parent / EPOCHS).is_file()


def take_model(
    work_dir: str | os.PathLike,
    model_path: str | os.PathLike,
    history_path: str | os.PathLike | None,
) -> None:
    """Put the model of a finished run, and its table of epochs, where the rule writes them."""
    copy_file(Path(work_dir) / FILE, model_path)
    if history_path is not None:
        copy_file(Path(work_dir) / EPOCHS, history_path)
