"""Train the recognizer, from settings to one model file.

| part of a training | module |
|---|---|
| the config: the MMEngine file and the settings | recipe.py |
| the folder of the run: attempts, checkpoints, the finished model | run.py |
| the plan for this machine: processes, shares of a batch, loaders | plan.py |
| a trial of the whole way before the first job | trial.py |
| a batch: segments of whole videos, in an order from seed and epoch | clips/dataset.py |
| epochs and batches after the last saved one; validations; the times of saves | loop.py |
| a step: forward, loss, backward, in micro-batches; validation too | model/forward.py |
| the loss, for pairs, verbs and nouns | model/registered.py: `OutputsLoss` |
| the contents of a checkpoint | state.py |
| rows of training.tsv, the bar | report.py |
| the hooks that MMEngine calls: seeds, BatchNorm, the checkpoint to resume | hooks.py |
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epic100.base.errors import EpicError
from epic100.base.gpu import look_for_gpus, unusable
from epic100.base.own_modules import use_modules
from epic100.base.ranks import rank
from epic100.model.forward import bare
from epic100.model.weights import fit_weights, read_weights
from epic100.segments.pairs import pairs_path, read_pairs
from epic100.segments.segment_list import read_clean_list
from epic100.settings import TrainSettings
from epic100.training.loop import QuietRunner
from epic100.training.plan import choose_device, plan_run
from epic100.training.recipe import build_config
from epic100.training.run import open_run
from epic100.training.state import trained_model

log = logging.getLogger(__name__)


def train(
    settings: TrainSettings,
    model_path: str | os.PathLike,
    *,
    history_path: str | os.PathLike | None = None,
    results: str,
    video_root: str,
    num_verbs: int,
    num_nouns: int,
    index_dir: str | None = None,
    names: Mapping[str, Mapping[int, str]] | None = None,
    modules: Mapping[str, Any] | None = None,
) -> None:
    """Train on `{results}/clean/{split}.txt` and write the finished model.

    Logs and checkpoints are written to a folder below `{results}/work_dirs`. Its name depends on
    the data and settings of the run. If the same run is started again, it resumes its newest
    undamaged checkpoint; if it was finished, its model is copied.

    Args:
        settings: The `train:` section.
        model_path: Path of the model file to write.
        history_path: Path of the table of epochs to write (`scoring.epoch_table`).
        results: The folder that contains `clean/` and `scan/`.
        video_root: The folder of the videos.
        num_verbs: Number of verb classes of the challenge.
        num_nouns: Number of noun classes of the challenge.
        index_dir: Folder of the frame indexes of the videos; None means `{results}/scan`.
        names: Class names for the model file, by task and class id (`ClassNames.by_task`).
        modules: The config's `modules` section.

    Raises:
        EpicError: The data or settings cannot be trained with.
        Stopped: A signal asked to stop, and the state is saved.
    """
    use_modules(modules)
    placement = choose_device(settings.device, settings.gpus, look_for_gpus(), settings.nodes)
    if placement.device == "cuda" and (reason := unusable()):
        raise EpicError(f"torch cannot compute on this GPU: {reason}")
    classes = (num_verbs, num_nouns)
    pairs = read_pairs(pairs_path(results, settings.split))
    segments = read_clean_list(f"{results}/clean/{settings.split}.txt")

    recipe = build_config(settings, results, video_root, index_dir, classes)
    run = open_run(Path(results) / "work_dirs", recipe)
    if run.attempt is None:
        if rank() == 0:
            log.info(f"{run.folder} has the finished model of these settings and lists: taken")
            run.take_model(model_path, history_path)
        return
    plan = plan_run(recipe, settings, placement, work_dir=run.attempt)

    runner = QuietRunner.from_cfg(plan.config)
    if weights := recipe.load_from:
        log.info(f"{weights}: {fit_weights(weights, read_weights(weights), bare(runner.model))}")
    # This property builds the loop and its data loader.
    loop = runner.train_loop
    if rank() == 0:
        log.info(f"MMEngine's own log: {runner.logger.log_file}")

    # This resumes the newest checkpoint that loads, and calls `ResumableEpochLoop.run`.
    runner.train()
    if rank() == 0:
        trained_on = {
            "split": settings.split,
            "segments": len(segments),
            "epochs": loop.max_epochs,
            "seed": settings.seed,
            "load_from": settings.load_from or recipe.load_from,
        }
        run.finish(trained_model(runner, plan.config, pairs, classes, trained_on, names))
        run.take_model(model_path, history_path)
