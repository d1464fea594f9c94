"""The model of a finished run stays in its work directory, and is taken from there again.

Snakemake removes the outputs of a job before it starts, so `results/model.pth` cannot be the only
copy: another setting that is tried for an hour would cost the model of a day.
"""

import os
from pathlib import Path

from epic100.base.atomic import copy_file
from epic100.base.torch_file import BrokenFile
from epic100.model.model_file import TrainedModel, load_model, save_model
from epic100.training.checkpoints import set_aside
from epic100.training.epoch_table import FILE as EPOCHS

FILE = "model.pth"


def keep_model(model: TrainedModel, work_dir: str | os.PathLike) -> None:
    """Write the model of a finished run to its work directory."""
    save_model(model, Path(work_dir) / FILE)


def has_model(work_dir: str | os.PathLike, classes: tuple[int, int]) -> bool:
    """Whether the run of this work directory is finished, and its model is intact.

    A broken file is renamed to `model.broken`; then the run resumes from its last checkpoint.

    Args:
        work_dir: The work directory, whose name stands for all that the weights depend on.
        classes: The numbers of verbs and nouns that the model must have.
    """
    path = Path(work_dir) / FILE
    if not path.is_file():
        return False
    try:
        model = load_model(path)
    except BrokenFile as error:
        set_aside(path, error)
        return False
    return (model.num_verbs, model.num_nouns) == classes and (path.parent / EPOCHS).is_file()


def take_model(
    work_dir: str | os.PathLike,
    model_path: str | os.PathLike,
    history_path: str | os.PathLike | None,
) -> None:
    """Put the model of a finished run, and its table of epochs, where the rule writes them."""
    copy_file(Path(work_dir) / FILE, model_path)
    if history_path is not None:
        copy_file(Path(work_dir) / EPOCHS, history_path)
