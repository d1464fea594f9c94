"""The hook that saves a run, picks it up again and stops it on a signal."""

import logging
import math
from pathlib import Path
from typing import Any

from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from epic100.training.checkpoints import (
    checkpoint_path,
    checkpoints,
    keep_as_best,
    newest_checkpoint,
    read_checkpoint,
    refuse_another_run,
    remove_half_written,
    require_space,
    write_checkpoint,
)
from epic100.training.collective import on_rank_0
from epic100.training.device import bare
from epic100.training.hook_order import PRIORITIES
from epic100.training.loop import ResumableEpochLoop
from epic100.training.stamp import FILE as STAMP
from epic100.training.stamp import differences, read_stamp, run_stamp
from epic100.training.state import collect_state, take_own_state
from epic100.training.validation import ACTION_TOP1
from epic100.training.weights import tensors_of

log = logging.getLogger(__name__)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Saves after epochs and in between, resumes the newest state that loads, stops on a signal.

    Takes the place of MMEngine's CheckpointHook and goes with ResumableEpochLoop. Random states are
    not saved: what is drawn follows from seed, epoch, sample and iteration (SampleSeedHook). With
    several processes rank 0 writes, for all (`state.collect_state`).

    Args:
        iterations: Save in an epoch after so many batches; None is never.
        seconds: Save so long after the last save; None is never.
        keep: How many of the newest checkpoints stay.
        go_on: The workflow's way: the work directory is one run's own (`stamp.open_work_dir`) and
            what it holds is resumed. Without it only a Runner with `resume` set resumes.
    """

    priority = PRIORITIES["SafeCheckpointHook"]

    def __init__(
        self,
        iterations: int | None = None,
        seconds: float | None = 600.0,
        keep: int = 2,
        go_on: bool = False,
    ) -> None:
        if keep < 2:
            raise EpicError(f"checkpoint.keep is {keep}; expected 2 or more: the newest may break")
        self.iterations, self.seconds, self.keep, self.go_on = iterations, seconds, keep, go_on
        self._saved_at = 0.0
        self._stamp: dict[str, str] = {}
        self._config_text = ""

    def before_run(self, runner: Runner) -> None:
        """Decide, alike on all ranks, what to resume from, before the Runner loads anything."""
        if not isinstance(runner.train_loop, ResumableEpochLoop):
            raise EpicError(
                f"train_cfg.type is {type(runner.train_loop).__name__}; SafeCheckpointHook goes "
                "with ResumableEpochLoop, which can begin inside an epoch"
            )
        work_dir, config = Path(runner.work_dir), runner.cfg
        if runner._resume and runner._load_from is not None:  # tools/train.py --resume FILE
            self._stamp = on_rank_0(lambda: _adopted_stamp(runner._load_from, config))
            return
        self._stamp = on_rank_0(
            lambda: read_stamp(work_dir) if self.go_on else run_stamp(config, get_world_size())
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

    def before_train(self, runner: Runner) -> None:
        """Look for room on the disk before hours are spent."""
        model = bare(runner.model)
        weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
        size = 4 * weights  # with two moments of Adam and an average of the weights
        there = sum(path.stat().st_size for path in checkpoints(runner.work_dir))
        on_rank_0(lambda: require_space(runner.work_dir, (self.keep + 2) * size - there))
        self._saved_at = runner.train_loop.clock
        if runner.iter and runner.iter == runner.message_hub.get_info("best_iter"):
            best = checkpoint_path(runner.work_dir, runner.iter)  # a kill may have come in between
            on_rank_0(lambda: keep_as_best(best))
        self._config_text = runner.cfg.pretty_text  # takes a while, each time

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save where it is time to; save and stop where a signal came."""
        loop, done = runner.train_loop, runner.iter + 1
        last = batch_idx + 1 == len(runner.train_dataloader)
        due = self.iterations is not None and done % self.iterations == 0
        due |= self.seconds is not None and loop.clock - self._saved_at >= self.seconds
        due = due and not last  # the end of an epoch saves by itself, once the epoch is whole
        if due or loop.stopping or (last and loop.validates_after(runner.epoch + 1)):
            path = self._save(runner, runner.epoch, done)
            if loop.stopping:
                raise EpicError(
                    f"{loop.signals.requested or 'a signal to another process'} came: saved {path} "
                    f"after {done} of {runner.max_iters} iterations and stopped; the same command "
                    "goes on from there"
                )

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop inside a validation; the state before it was saved."""
        if runner.train_loop.stop_requested():
            raise EpicError(
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
        try:
            state = collect_state(runner, epoch, done, self._config_text)
        except EpicError as error:
            before = checkpoints(runner.work_dir)
            raise EpicError(
                f"epoch {epoch + 1}, iteration {done}: {error}, and so not saved; the last good "
                f"checkpoint is {before[0] if before else 'none'}; lower the learning rate"
            ) from error
        on_rank_0(lambda: write_checkpoint(path, {**state, "stamp": self._stamp}, self.keep))
        self._saved_at = runner.train_loop.clock
        return path

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """In a resume, give each rank back what was its own; else read foreign names."""
        if runner._resume:
            take_own_state(runner, checkpoint)
        else:
            checkpoint["state_dict"] = tensors_of(checkpoint)


def _pick_up(work_dir: Path, stamp: dict[str, str]) -> str | None:
    remove_half_written(work_dir)
    path = newest_checkpoint(work_dir, stamp)
    if path is None:
        _report_other_run(work_dir, stamp)
        return None
    log.info(f"resuming from {path}")
    return str(path)


def _adopted_stamp(path: str, config: Config) -> dict[str, str]:
    content = read_checkpoint(path)
    ours = run_stamp(config, get_world_size())
    # The file that is resumed is given to MMEngine in place of the run's start weights.
    ours["start weights"] = content.get("stamp", {}).get("start weights", "")
    refuse_another_run(path, content, ours)
    return ours


def _report_other_run(work_dir: Path, stamp: dict[str, str]) -> None:
    """Name the run beside this one that was saved last, and how it differs."""
    others = [path.parent for path in work_dir.parent.glob(f"*/{STAMP}")]
    saved = [folder for folder in others if checkpoints(folder)]
    if saved:
        last = max(saved, key=lambda folder: checkpoints(folder)[0].stat().st_mtime)
        differing = differences(read_stamp(last), stamp)
        log.info(
            f"starting from the first batch: {last} is another run, which differs in {differing}"
        )
