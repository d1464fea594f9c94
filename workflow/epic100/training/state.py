"""The hook that saves a run, resumes it and stops it on a signal, and what it saves.

MMEngine's own checkpoint (0.10.7) contains objects that `weights_only=True` refuses, formats the
config again for each save, and does not save state per rank.
"""

import contextlib
import logging
import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from epic100.base.ranks import from_all, on_rank_0, rank, world
from epic100.base.stop import Stopped
from epic100.model.forward import bare
from epic100.model.model_file import Pairs, TrainedModel
from epic100.model.weights import GUARDED, tensors_of
from epic100.training.hooks import PRIORITIES
from epic100.training.recipe import model_config
from epic100.training.run import (
    STAMP,
    attempts,
    checkpoint_path,
    checkpoints,
    differences,
    keep_as_best,
    last_saved,
    newest_checkpoint,
    read_stamp,
    run_stamp,
    write_checkpoint,
)
from epic100.training.validation import ACTION_TOP1

log = logging.getLogger(__name__)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Save after and during epochs, resume the newest checkpoint that loads, stop on a signal.

    It replaces MMEngine's CheckpointHook and needs ResumableEpochLoop. Random states are not saved,
    because random draws depend only on seed, epoch, sample and iteration (SampleSeedHook). With
    several processes, rank 0 writes for all (`collect_state`).

    Args:
        iterations: Save after this many batches within an epoch; None means never.
        seconds: Save this many seconds after the last save; None means never.
        keep: Number of newest checkpoints to keep.
        go_on: True in the workflow: the work directory belongs to one attempt (`begin_attempt`),
            and its checkpoints are resumed. If False, only a Runner with `resume` set resumes.
    """

    priority = PRIORITIES["SafeCheckpointHook"]

    def __init__(
        self,
        iterations: int | None = None,
        seconds: float | None = 600.0,
        keep: int = 2,
        go_on: bool = False,
    ) -> None:
        self.iterations, self.seconds, self.keep, self.go_on = iterations, seconds, keep, go_on
        self._saved_at = 0.0
        self._stamp: dict[str, str] = {}
        self._config_text = ""

    def before_run(self, runner: Runner) -> None:
        """Choose what to resume from, the same on all ranks, before the Runner loads anything."""
        work_dir, config = Path(runner.work_dir), runner.cfg
        if runner._resume and runner._load_from is not None:
            raise EpicError(
                f"--resume {runner._load_from}: expected --resume alone, which goes on from the "
                f"newest checkpoint in {work_dir}; set `load_from` to start from other weights"
            )
        self._stamp = on_rank_0(
            lambda: read_stamp(work_dir.parent) if self.go_on else run_stamp(config, world())
        )
        if runner._resume or self.go_on:
            path = on_rank_0(lambda: _pick_up(work_dir, self._stamp))
            runner._resume = path is not None
            runner._load_from = path or runner._load_from
        elif checkpoints(work_dir):
            raise EpicError(
                f"{work_dir} holds checkpoints already; resume them (tools/train.py --resume), or "
                "take another work directory"
            )
        if not runner._resume and Path(runner._load_from or "").is_file():
            runner._load_from = f"{GUARDED}{runner._load_from}"

    def before_train(self, runner: Runner) -> None:
        """Note the time and the config, and keep a best checkpoint whose copy a kill prevented."""
        self._saved_at = runner.train_loop.clock
        if runner.iter and runner.iter == runner.message_hub.get_info("best_iter"):
            best = checkpoint_path(runner.work_dir, runner.iter)
            on_rank_0(lambda: keep_as_best(best))
        self._config_text = runner.cfg.pretty_text  # slow, so formatted only once

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save if a save is due; save and stop if a signal arrived."""
        loop, done = runner.train_loop, runner.iter + 1
        last = batch_idx + 1 == len(runner.train_dataloader)
        due = self.iterations is not None and done % self.iterations == 0
        due |= self.seconds is not None and loop.clock - self._saved_at >= self.seconds
        due = due and not last  # after_whole_epoch saves after the last batch
        if due or loop.stopping or (last and loop.validates_after(runner.epoch + 1)):
            path = self._save(runner, runner.epoch, done)
            if loop.stopping:
                raise Stopped(
                    f"{loop.signals.requested or 'a signal to another process'} came: saved {path} "
                    f"after {done} of {runner.max_iters} iterations and stopped; the same command "
                    "goes on from there"
                )

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop during a validation if a signal arrived; the state before it is already saved."""
        if runner.train_loop.stop_requested():
            raise Stopped(
                f"{runner.train_loop.signals.requested or 'a signal to another process'} came in "
                f"the validation after epoch {runner.epoch}: stopped; "
                f"{checkpoint_path(runner.work_dir, runner.iter)} was saved before it, and the "
                "same command goes on from there"
            )

    def after_whole_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the state after an epoch and its validation; keep the best by action top-1."""
        score = metrics.get(ACTION_TOP1, -math.inf)
        better = score > runner.message_hub.get_info("best_action_top1", -math.inf)
        if better:
            runner.message_hub.update_info("best_action_top1", float(score))
            runner.message_hub.update_info("best_iter", runner.iter)
        path = self._save(runner, runner.epoch, runner.iter)
        if better:
            on_rank_0(lambda: keep_as_best(path))

    def _save(self, runner: Runner, epoch: int, done: int) -> Path:
        path = checkpoint_path(runner.work_dir, done)
        runner.train_loop.catch_up()  # no loss that was not looked at
        sums = torch.stack([p.detach().double().sum() for p in runner.model.parameters()])
        if not torch.isfinite(sums).all():
            raise EpicError(
                f"epoch {epoch + 1}, iteration {done}: weights are NaN or infinite, and so not "
                f"saved; {last_saved(runner.work_dir)}; lower the learning rate"
            )
        state = collect_state(runner, epoch, done, self._config_text)
        on_rank_0(lambda: write_checkpoint(path, {**state, "stamp": self._stamp}, self.keep))
        self._saved_at = runner.train_loop.clock
        return path

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore each rank's own state on a resume; otherwise convert foreign tensor names."""
        if runner._resume:
            take_own_state(runner, checkpoint)
        else:
            checkpoint["state_dict"] = tensors_of(checkpoint)


def _pick_up(work_dir: Path, stamp: dict[str, str]) -> str | None:
    path = newest_checkpoint(work_dir, stamp)
    if path is None:
        _report_other_run(work_dir, stamp)
        return None
    log.info(f"resuming from {path}")
    return str(path)


def _report_other_run(work_dir: Path, stamp: dict[str, str]) -> None:
    """Log the most recently saved other run beside this one, and how it differs."""
    runs = work_dir.parent.parent.glob(f"*/{STAMP}")
    saved = [path for run in runs for each in attempts(run.parent) for path in checkpoints(each)]
    if saved:
        last = max(saved, key=lambda path: path.stat().st_mtime).parent.parent
        differing = differences(read_stamp(last), stamp)
        log.info(
            f"starting from the first batch: {last} is another run, which differs in {differing}"
        )


def collect_state(runner: Runner, epoch: int, done: int, config_text: str) -> dict:
    """Collect the state of a run, in the form that MMEngine's resume reads.

    `rank_states` is added to it: the buffers of each rank (BatchNorm's running statistics). All
    ranks must call it together.

    Args:
        runner: MMEngine's Runner in training.
        epoch: Number of finished epochs.
        done: Number of finished batches.
        config_text: The run's config as text.
    """
    model = bare(runner.model)
    weights = model.state_dict()
    buffers = {n: buffer.cpu() for n, buffer in model.named_buffers() if n in weights}
    state = {
        "meta": {
            "epoch": epoch,
            "iter": done,
            "seed": runner.seed,
            "dataset_meta": runner.train_dataloader.dataset.metainfo,
            "cfg": config_text,
        },
        "state_dict": weights,
        "message_hub": _plain_hub(runner.message_hub),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [plain(s.state_dict()) for s in runner.param_schedulers or []],
        "rank_states": from_all({"buffers": buffers}),
    }
    runner.call_hook("before_save_checkpoint", checkpoint=state)
    return state


def take_own_state(runner: Runner, checkpoint: dict) -> None:
    """Restore this rank's own state, just before the Runner loads the checkpoint.

    If the number of processes has changed, all continue from rank 0's buffers, and this is logged.
    """
    states = checkpoint["rank_states"]
    if len(states) != world():
        if not rank():
            log.info(
                f"saved by {len(states)} processes, resumed by {world()}: all go on from "
                "rank 0's BatchNorm statistics, equal to rounding, not to the bit"
            )
        return
    checkpoint["state_dict"].update(states[rank()]["buffers"])


def plain(value: Any) -> Any:
    """The same data with Python's numbers for NumPy's, which `weights_only=True` refuses.

    Raises:
        TypeError: It is no data, or contains what is none.
    """
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    if isinstance(value, np.generic):  # np.float64 is also a float
        return value.item()
    if value is None or isinstance(value, (numbers.Number, str, torch.Tensor)):
        return value
    raise TypeError(f"{type(value).__name__} is no data")


def _plain_hub(hub: MessageHub) -> dict:
    """The part of MMEngine's message hub that resuming uses; logged figures start again."""
    info = {}
    for key, value in hub.runtime_info.items():
        with contextlib.suppress(TypeError):  # an object of a hook of the user's own
            if key != "cfg":
                info[key] = plain(value)
    return {"log_scalars": {}, "runtime_info": info, "resumed_keys": dict.fromkeys(info, True)}


def trained_model(
    runner: Runner,
    config: Config,
    pairs: Pairs,
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


def final_weights(runner: Runner) -> dict[str, torch.Tensor]:
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
