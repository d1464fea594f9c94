"""Train the recognizer with MMEngine's Runner, from settings to one model file.

| part of a training | module |
|---|---|
| the config: the MMEngine file and the settings | recipe.py |
| what this machine adds to it: processes, loaders, memory layout | plan.py |
| several processes and nodes, by torchrun | launch.py, base/processes.py |
| a trial of the complete way before the first job | trial.py | | an epoch that begins in its
middle; validation | loops.py | | seeds, saves, training.tsv, frozen BatchNorm, rules for parameters
| hooks.py | | the folder of a training, and which checkpoint it resumes | run.py | | a batch:
segments of complete videos | clips/dataset.py | | the loss, for pairs, verbs and nouns |
model/registered.py |
"""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import Tensor, nn

from epic100.base.atomic import copy_file
from epic100.base.errors import EpicError
from epic100.base.machine import processor_name
from epic100.base.own_modules import code_digests, use_modules
from epic100.base.processes import Placement, choose_device, look_for_gpus, unusable
from epic100.base.stop import end_workers
from epic100.clips.defects import ended_workers_are_errors
from epic100.data.pairs import pairs_path, read_pairs
from epic100.data.segment_list import read_clean_list
from epic100.model.model_file import TrainedModel, save_model
from epic100.model.weights import fit_weights, read_weights
from epic100.settings.training import TrainSettings
from epic100.training.hooks import START_WEIGHTS, SaveHook, bare, batch_norms
from epic100.training.plan import plan_run
from epic100.training.recipe import Recipe, build_config, custom_hooks, model_config
from epic100.training.run import EPOCHS, MODEL, is_finished, newest_checkpoint, open_run

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

    Logs and checkpoints are in a folder below `{results}/work_dirs`, whose name depends on the data
    and settings of the training. The same training resumes its newest checkpoint there; if it was
    finished, its model is copied.

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
    recipe = build_config(settings, results, video_root, index_dir, (num_verbs, num_nouns))
    run = open_run(Path(results) / "work_dirs", recipe, code_digests(settings.config, modules))
    if is_finished(run):
        log.info(f"{run} has the finished model of these settings, lists and modules: taken")
    else:
        placement = choose_device(
            "train", settings.device, settings.gpus, look_for_gpus(), settings.nodes
        )
        if placement.device == "cuda" and (reason := unusable()):
            raise EpicError(f"torch cannot compute on this GPU: {reason}")
        threads = f"{placement.processes} x {torch.get_num_threads()} threads"
        log.info(f"training on the {placement.device.upper()}, {threads}")
        runner = run_training(plan_run(recipe, settings, placement, work_dir=run), run)
        model = TrainedModel(
            state_dict=final_weights(runner),
            pairs=read_pairs(pairs_path(results, settings.split)),
            num_verbs=num_verbs,
            num_nouns=num_nouns,
            config=model_config(recipe),
            trained_on={
                "split": settings.split,
                "segments": len(read_clean_list(f"{results}/clean/{settings.split}.txt")),
                "epochs": runner.max_epochs,
                "seed": settings.seed,
                "load_from": settings.load_from or recipe.load_from or settings.encoder,
                **_hardware(placement),
            },
            heads=recipe.model.cls_head.heads,
            names=names or {},
        )
        if is_main_process():
            save_model(model, run / MODEL)
    if is_main_process():
        copy_file(run / MODEL, model_path)
        if history_path is not None:
            copy_file(run / EPOCHS, history_path)


def _hardware(placement: Placement) -> dict[str, str | int]:
    """Say on what a training runs: the name of the processor, and how many `gpus` or `cores`."""
    if placement.device == "cuda":
        return {"hardware": torch.cuda.get_device_name(), "gpus": placement.processes}
    cores = placement.processes * torch.get_num_threads()
    return {"hardware": processor_name(), "cores": cores}


def run_training(config: Recipe, run: Path) -> Runner:
    """Train with a complete MMEngine config, from the newest checkpoint of the run or the start.

    Args:
        config: The result of `plan_run`.
        run: The folder of the training.

    Returns:
        MMEngine's Runner at the end of the training.

    Raises:
        EpicError: As `train`.
    """
    checkpoint, weights = newest_checkpoint(run), config.get("load_from")
    config.resume = checkpoint is not None
    # Runners of one name share their messages in MMEngine.
    config.experiment_name = f"{run.name}_{time.time_ns()}"
    if checkpoint:
        config.load_from = str(checkpoint)
        log.info(f"going on from {checkpoint}")
    runner = TrainRunner.from_cfg(config)
    if not checkpoint and weights and Path(weights).is_file():
        runner._load_from = START_WEIGHTS + weights
        log.info(f"{weights}: {fit_weights(weights, read_weights(weights), bare(runner.model))}")
    (save_hook,) = (hook for hook in runner.hooks if isinstance(hook, SaveHook))
    try:
        with save_hook.signals.noting(), ended_workers_are_errors():
            runner.train()
    finally:
        for loop in (runner._train_loop, runner._val_loop):
            if hasattr(loop, "dataloader"):
                end_workers(loop.dataloader)
    return runner


class TrainRunner(Runner):
    """MMEngine's Runner, which freezes BatchNorm's scale and shift if the recipe says so.

    No hook can do it: MMEngine wraps the model for several processes right after it is built.
    """

    def build_model(self, model: Any) -> nn.Module:
        """Build the model."""
        built = super().build_model(model)
        if any(hook.type == "FrozenBatchNormHook" for hook in custom_hooks(self.cfg)):
            for layer in batch_norms(built):
                layer.requires_grad_(False)
        return built


def final_weights(runner: Runner) -> dict[str, Tensor]:
    """Copy the final weights to the CPU: the weights of the moving average if there is one.

    Buffers (BatchNorm's statistics) are always the model's, which the processes share at the end of
    an epoch. The buffers of the average belong to one process only.
    """
    weights = bare(runner.model).state_dict()
    for hook in runner.hooks:
        if hasattr(hook, "ema_model"):  # MMEngine's EMAHook has it.
            weights |= dict(hook.ema_model.module.named_parameters())
    return {name: value.detach().cpu().clone() for name, value in weights.items()}
