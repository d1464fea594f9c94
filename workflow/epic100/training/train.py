"""Train the recognizer with MMEngine's Runner, from settings to one model file.

| part of a training | module |
|---|---|
| the config: the MMEngine file and the settings | recipe.py |
| what this machine adds to it: processes, loaders, memory layout | plan.py |
| several processes and nodes, by torchrun | base/processes.py |
| seeds, saves, an epoch that begins in its middle | resume.py |
| training.tsv, schedules, validation, frozen BatchNorm, rules for parameters | hooks.py |
| a batch: segments of complete videos | clips/dataset.py |
| the loss, for pairs, verbs and nouns | model/registered.py |

The folder of a training is named by a digest of all that the weights depend on (`fingerprint`), so
a training resumes only what is its own. Snakemake removes the outputs of a job before it starts.
The finished model is kept in the folder, so that another setting that is tried for an hour does not
cost the model of a day.
"""

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import nn

from epic100.base.atomic import copy_file, write_text, writing
from epic100.base.disk import read_json
from epic100.base.errors import EpicError, some
from epic100.base.machine import processor_name
from epic100.base.own_modules import code_digests, use_modules
from epic100.base.processes import Placement, choose_device, look_for_gpus, run_processes, unusable
from epic100.base.stop import end_workers, ended_workers_are_errors
from epic100.data.pairs import read_pairs
from epic100.data.segment_list import read_clean_list
from epic100.model.model_file import TrainedModel, digest, load_model, save_model
from epic100.model.weights import fit_weights, read_weights
from epic100.scoring.epoch_table import FILE as EPOCHS
from epic100.settings.training import TrainSettings
from epic100.training.hooks import START_WEIGHTS, bare, batch_norms
from epic100.training.plan import plan_run
from epic100.training.recipe import build_config, by_key, model_config
from epic100.training.resume import SaveHook, newest_checkpoint

log = logging.getLogger(__name__)
MODEL = "model.pth"
FINGERPRINT = "fingerprint.json"


def train(
    settings: TrainSettings, *, results: str, requested_gpus: int = 0, **arguments: Any
) -> None:
    """Train on the device and with the number of processes that the settings ask for.

    Args:
        settings: The `train:` section.
        results: The folder that contains `clean/` and `scan/`.
        requested_gpus: Number of GPUs that the rule requests from its scheduler.
        arguments: The other arguments of `train_here`.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; the data or settings cannot
            be trained with; or a process failed, with its own message.
        Stopped: A signal asked to stop, and the state is saved.
    """
    gpus = look_for_gpus(requested_gpus)
    placement = choose_device("train", settings.device, settings.gpus, gpus, settings.nodes)
    arguments |= {"settings": settings, "placement": placement, "results": results}
    # MMEngine uses any GPU that it sees, and this process sees its GPUs already. So a training on
    # the CPU then needs another process.
    if placement.processes == 1 and (placement.device == "cuda" or not gpus.visible):
        train_here(**arguments)
    else:
        run_processes(train_here, arguments, placement, Path(results, "work_dirs"))


def train_here(
    settings: TrainSettings,
    placement: Placement,
    model_path: str,
    *,
    history_path: str | None = None,
    results: str,
    video_root: str,
    num_verbs: int,
    num_nouns: int,
    index_dir: str | None = None,
    names: Mapping[str, Mapping[int, str]] | None = None,
    modules: Mapping[str, Any] | None = None,
) -> None:
    """Train on `{results}/clean/{split}.txt` in this process, and write the finished model.

    Logs and checkpoints are in a folder below `{results}/work_dirs`, whose name depends on the data
    and settings of the training. The same training resumes its newest checkpoint there; if it was
    finished, its model is copied.

    Args:
        settings: The `train:` section.
        placement: The device, and the processes of which this may be one.
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
        EpicError: The data or settings cannot be trained with, or the device cannot be used.
        Stopped: A signal asked to stop, and the state is saved.
    """
    use_modules(modules)
    recipe = build_config(settings, results, video_root, index_dir, (num_verbs, num_nouns))
    run = open_run(Path(results, "work_dirs"), recipe, code_digests(settings.config, modules))
    if is_finished(run):
        log.info(f"{run} has the finished model of these settings, lists and modules: taken")
    else:
        runner = run_training(plan_run(recipe, settings, placement, work_dir=run), placement)
        if is_main_process():
            save_model(finished_model(runner, recipe, settings, placement, names), run / MODEL)
    if is_main_process():
        copy_file(run / MODEL, model_path)
        if history_path is not None:
            copy_file(run / EPOCHS, history_path)


def run_training(config: Config, placement: Placement) -> Runner:
    """Train with a complete MMEngine config, from the newest checkpoint of the run or the start.

    Args:
        config: The result of `plan_run`.
        placement: Device and processes.

    Returns:
        MMEngine's Runner at the end of the training.

    Raises:
        EpicError: As `train`.
    """
    if placement.device == "cuda" and (reason := unusable()):
        raise EpicError(f"torch cannot compute on this GPU: {reason}")
    threads = f"{placement.processes} x {torch.get_num_threads()} threads"
    log.info(f"training on the {placement.device.upper()}, {threads}")

    # Where it begins: at a checkpoint, or with start weights.
    run = Path(config.work_dir)
    checkpoint, weights = newest_checkpoint(run), config.get("load_from")
    starts_from_file = checkpoint is None and weights is not None and Path(weights).is_file()
    if checkpoint:
        config.resume, config.load_from = True, str(checkpoint)
        log.info(f"going on from {checkpoint}")
    elif starts_from_file:
        # The prefix makes MMEngine load the file with our reader, which takes tensors alone and
        # runs no code (hooks.py).
        config.load_from = START_WEIGHTS + weights
    # Runners of one name share their messages in MMEngine.
    config.experiment_name = f"{run.name}_{time.time_ns()}"
    runner = TrainRunner.from_cfg(config)
    if starts_from_file:
        # The file is read a second time, only to say how many of its tensors fit.
        log.info(f"{weights}: {fit_weights(weights, read_weights(weights), bare(runner.model))}")

    (save_hook,) = (hook for hook in runner.hooks if isinstance(hook, SaveHook))
    try:
        # MMEngine writes logs into this folder, and a write that fails does not name its file.
        with writing(run), save_hook.signals.noting(), ended_workers_are_errors():
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
        if any(hook.type == "FrozenBatchNormHook" for hook in self.cfg.get("custom_hooks") or []):
            for layer in batch_norms(built):
                layer.requires_grad_(False)
        return built


def finished_model(
    runner: Runner,
    recipe: Config,
    settings: TrainSettings,
    placement: Placement,
    names: Mapping[str, Mapping[int, str]] | None,
) -> TrainedModel:
    """Make the content of the model file at the end of a training.

    Its weights are those of the moving average if there is one. Buffers (BatchNorm's statistics)
    are always the model's, which the processes share at the end of an epoch; the buffers of the
    average belong to one process only.
    """
    weights = bare(runner.model).state_dict()
    for hook in runner.hooks:
        if hasattr(hook, "ema_model"):  # MMEngine's EMAHook has it.
            weights |= dict(hook.ema_model.module.named_parameters())
    cores = placement.processes * torch.get_num_threads()
    hardware: dict[str, str | int] = {"hardware": processor_name(), "cores": cores}
    if placement.device == "cuda":
        hardware = {"hardware": torch.cuda.get_device_name(), "gpus": placement.processes}
    head, dataset = recipe.model.cls_head, recipe.train_dataloader.dataset
    return TrainedModel(
        state_dict={name: value.detach().cpu().clone() for name, value in weights.items()},
        pairs=read_pairs(head.pairs),
        num_verbs=head.num_verbs,
        num_nouns=head.num_nouns,
        config=model_config(recipe),
        trained_on={
            "split": settings.split,
            "segments": len(read_clean_list(dataset.ann_file)),
            "epochs": runner.max_epochs,
            "seed": settings.seed,
            "load_from": settings.load_from or recipe.load_from or settings.encoder,
            **hardware,
        },
        heads=head.heads,
        names=names or {},
    )


def open_run(folder: Path, config: Config, code: Mapping[str, str]) -> Path:
    """Make the folder of a training, with its fingerprint in it to read.

    Args:
        folder: `results/work_dirs`.
        config: The result of `build_config`.
        code: Digests of the user's own modules by name (`base.own_modules`).

    Returns:
        The folder, `results/work_dirs/{digest of the fingerprint}`.
    """
    content = fingerprint(config, code)
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    run = folder / hashlib.sha256(text.encode()).hexdigest()[:12]
    others = sorted(folder.glob(f"*/{FINGERPRINT}"), key=lambda path: path.stat().st_mtime)
    # A fingerprint that cannot be read is of another training, and stops no new one.
    with contextlib.suppress(EpicError, TypeError):
        if others and run / FINGERPRINT not in others:
            theirs = read_json(others[-1])
            keys = [key for key in content | theirs if content.get(key) != theirs.get(key)]
            log.info(f"a new training; {others[-1].parent} differs in {some(keys)}")
    write_text(run / FINGERPRINT, text)
    return run


# A fingerprint has the settings below these keys of the config.
FINGERPRINTED_KEYS = (
    "model",
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "custom_hooks",
    "randomness",
    "auto_scale_lr",
    "sync_bn",
)
# It leaves these out, at any depth. They say where files are (it has digests of them), how
# they are loaded, and when a validation is due.
LEFT_OUT = {
    "ann_file",
    "pairs",
    "data_root",
    "index_dir",
    "encoder_folder",
    "keep_open",
    "max_broken",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "val_interval",
    "val_begin",
    "dynamic_intervals",
}


def fingerprint(config: Config, code: Mapping[str, str]) -> dict[str, str]:
    """Collect everything that the result of a training depends on, by name.

    These are digests of the clean list, the pair table, the start weights and the user's modules,
    and each setting by its dotted key.

    Args:
        config: The result of `build_config`.
        code: Digests of the user's own modules by name.
    """
    dataset, weights = config.train_dataloader.dataset, config.get("load_from")
    content = {
        "clean list": digest(dataset.ann_file),
        "pair table": digest(dataset.pairs),
        "start weights": digest(weights) if weights and Path(weights).is_file() else str(weights),
        **{f"module {name}": code[name] for name in code},
    }
    settings = config.to_dict()
    for key, value in by_key({key: settings.get(key) for key in FINGERPRINTED_KEYS}).items():
        if value is not None and LEFT_OUT.isdisjoint(key.split(".")):
            content[key] = str(value)
    return content


def is_finished(run: Path) -> bool:
    """Whether the training has ended, and its model and its table of epochs can be read."""
    if not (run / MODEL).is_file() or not (run / EPOCHS).is_file():
        return False
    try:
        load_model(run / MODEL)
    except EpicError as error:
        log.warning(f"{error}; it is made again from the last checkpoint")
        return False
    return True
