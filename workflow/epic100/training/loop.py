"""The loop of a training: its epochs and batches, when it saves, and how it is stopped.

`ResumableEpochLoop.run` begins at the batch after the last saved one and ends with the last epoch.
The loop counts finished epochs (`epoch`) and batches (`iter`), and keeps the measurements
(`history`). The contents of checkpoints are made in `state`, progress is shown in `report`.
"""

import itertools
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner, ValLoop
from torch import nn
from torch.utils.data import BatchSampler, Sampler

import epic100.model.registered  # noqa: F401  (registers the heads that a config names)
from epic100.base.errors import EpicError
from epic100.base.ranks import from_all, on_rank_0, world
from epic100.base.stop import Stopped, StopSignals, end_workers, shelter_workers
from epic100.clips.dataset import Mover
from epic100.clips.faults import ended_workers_are_errors
from epic100.model.forward import bare, scores_of_views, train_step
from epic100.model.precision import dtype_of
from epic100.scoring.pair_metric import ACTION_TOP1
from epic100.training.hooks import SafeCheckpointHook, TelemetryHook, freeze_scales
from epic100.training.recipe import custom_hooks
from epic100.training.report import Report
from epic100.training.run import checkpoint_path, keep_as_best, last_saved, write_checkpoint
from epic100.training.state import History, Saves, collect_state, require_finite
from epic100.training.step import Mark, Step, clip_without_reading

# MMEngine's log keeps at most this many values of each figure; its averaging windows need fewer. It
# copies them at every iteration. With its default of a million values, the copy takes 14 ms after
# 630,000 iterations.
LOG_VALUES = 1000


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's epoch loop, which can begin at any batch, saves, reports, and stops on a signal.

    `epoch` counts finished epochs, including their validation; `iter` counts finished batches of
    all epochs. So a state saved after the last batch of an epoch differs from one saved after its
    validation. The loop works with any sampler that derives its order from its seed and epoch.

    On a GPU no step waits for the device: a step is pending until its figures are read. This
    happens after the next step was given to the device, at the end of an epoch, and before a save
    (`catch_up`). So hooks get the figures of an earlier step as `outputs`. On a CPU each step is
    read at once.

    Attributes:
        history: The measurements of the training so far.
        saves: When to save within an epoch, and the run's stamp; from `SafeCheckpointHook`.
        report: The progress on the screen and in files; from `TelemetryHook`.
        signals: The signals that ask this process to stop.
        stopping: Whether any process had been asked to stop at the step that was read last.
        micro_batch: Largest number of segments to train on at once; None means the whole batch.
        max_pending: Largest number of pending steps: 1 on a GPU, 0 on a CPU.
        loss: Loss of the step that was read last, the mean over processes.
        clock: Seconds of rank 0's monotonic clock at that step.
        computed: Seconds that this process computed for that step, without hooks.
        figures: Loss and other figures of that step, of this process, by name.

    Raises:
        EpicError: The loss is NaN or infinite: the error names the batch, nothing is saved. Or a
            process that reads clips was killed.
        Stopped: A signal asked to stop, and the state is saved.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take saves and report from their hooks, and replace the order of the loader's sampler."""
        super().__init__(*args, **kwargs)
        hooks = {type(hook): hook for hook in self.runner.hooks}
        self.history = History()
        self.saves: Saves = hooks[SafeCheckpointHook].saves
        self.report: Report = hooks[TelemetryHook].report
        self.signals = StopSignals()
        self.stopping = False
        self.micro_batch: int | None = None
        self.dtype = dtype_of(self.runner.cfg)
        self.device = next(self.runner.model.parameters()).device
        self.max_pending = 1 if self.device.type == "cuda" else 0
        self.figures: dict[str, float] = {}
        self._pending_steps: list[Step] = []
        batch_sampler = self.dataloader.batch_sampler
        if type(batch_sampler) is not BatchSampler:
            raise EpicError(
                f"train_dataloader.batch_sampler is {type(batch_sampler).__name__}; "
                "ResumableEpochLoop can begin inside an epoch with torch's own only; choose a "
                "`sampler` instead"
            )
        self._order = RestOfOrder(batch_sampler.sampler)
        batch_sampler.sampler = self._order

    def run(self) -> nn.Module:
        """Train on all batches that are left of the run, and return the model."""
        loaders = [self.dataloader]
        if self.runner.val_loop is not None:
            loaders.append(self.runner.val_loop.dataloader)
        for loader in loaders:
            shelter_workers(loader)
        try:
            with self.signals.noting(), ended_workers_are_errors():
                self._train()
        finally:
            self.report.end(self.history)
            for loader in loaders:
                end_workers(loader)
        return self.runner.model

    def _train(self) -> None:
        """Train, validate and save for each epoch that is left."""
        runner = self.runner
        runner.call_hook("before_train")
        self._begin()
        while self._epoch < self._max_epochs and not self.stop_training:
            runner.call_hook("before_train_epoch")
            runner.model.train()
            for batch, waited in self._rest_of_epoch():
                self.step(batch, waited)
                self._save_if_due()
            self.catch_up()
            runner.call_hook("after_train_epoch")
            self._epoch += 1
            self._end_epoch(self._validate())
        runner.call_hook("after_train")

    def _begin(self) -> None:
        """Prepare the first step: the clipping, the clock, the report, and the best checkpoint."""
        runner = self.runner
        if isinstance(runner.optim_wrapper, OptimWrapper):
            clip_without_reading(runner.optim_wrapper)
        # Formatting is slow, so it is done only once.
        self._config_text = runner.cfg.pretty_text
        self.clock = on_rank_0(time.monotonic)
        self.saves.last_save = self.clock
        self.report.begin(
            self.history,
            remaining=self._remaining_segments(),
            work_dir=runner.work_dir,
            epochs=self._max_epochs,
            workers=self.dataloader.num_workers,
        )
        # A kill may have come between the save of this checkpoint and its copy as the best one.
        if self._iter and self._iter == self.history.best_iter:
            on_rank_0(lambda: keep_as_best(self._checkpoint_path))

    @property
    def _batches_done(self) -> int:
        """Number of finished batches of the present epoch."""
        return self._iter - self._epoch * len(self.dataloader)

    def _remaining_segments(self) -> int:
        """Count the segments that are left to train on, over all epochs and processes."""
        batch_size = self.dataloader.batch_size * world()
        # The last batch of an epoch may be smaller.
        epoch_segments = min(
            len(self.dataloader) * batch_size, len(self.dataloader.sampler) * world()
        )
        return (self._max_epochs - self._epoch) * epoch_segments - self._batches_done * batch_size

    def _rest_of_epoch(self) -> Iterator[tuple[dict, float]]:
        """Yield the batches that are left of this epoch, each with the seconds spent waiting."""
        # A run may resume after the last batch of an epoch, before its validation.
        if self._batches_done == len(self.dataloader):
            return
        move = Mover(self.device)
        # The loader's sampler then skips the samples of the batches that are done.
        self._order.start = self._batches_done * self.dataloader.batch_size
        self._last_end: Mark | None = None
        asked_at = time.perf_counter()
        for batch in self.dataloader:
            waited = time.perf_counter() - asked_at
            yield move(batch), waited
            asked_at = time.perf_counter()

    def step(self, batch: dict, waited: float) -> None:
        """Train on one batch, and read steps until at most `max_pending` are pending."""
        runner = self.runner
        batch_index = self._batches_done
        runner.call_hook("before_train_iter", batch_idx=batch_index, data_batch=batch)
        began = Mark(self.device)
        outputs = train_step(
            runner.model,
            batch,
            runner.optim_wrapper,
            micro_batch=self.micro_batch,
            dtype=self.dtype,
        )
        # `clip_without_reading` sets the norm, if gradients are clipped.
        if hasattr(runner.optim_wrapper, "norm"):
            outputs["grad_norm"] = runner.optim_wrapper.norm
        step = Step(
            number=self._iter,
            batch=batch,
            lr=float(runner.message_hub.get_scalar("train/lr").current()),
            waited=waited,
            before=self._last_end,
            began=began,
            ended=Mark(self.device),
        )
        step.send(outputs, stop_requested=self.signals.requested is not None)
        self._last_end = step.ended
        self._pending_steps.append(step)
        self.catch_up(self.max_pending)
        runner.call_hook(
            "after_train_iter", batch_idx=batch_index, data_batch=batch, outputs=self.figures
        )
        self._iter += 1

    def catch_up(self, max_pending: int = 0) -> None:
        """Wait for all pending steps but the last `max_pending` ones, and read their figures."""
        while len(self._pending_steps) > max_pending:
            self._read(self._pending_steps.pop(0))
        # A single process sees its signal at once. Several must stop after the same step, so
        # `_read` sets `stopping` from the sum over all processes (`Step.send`).
        if world() == 1:
            self.stopping = self.signals.requested is not None

    def _read(self, step: Step) -> None:
        """Wait for a step, check its loss, and add its figures to the history and the report."""
        self.loss, self.clock, self.stopping, self.figures = step.read()
        if not math.isfinite(self.loss):
            raise EpicError(self._bad_loss_error(step))
        self.computed = step.computed
        self.runner.message_hub.update_scalar("train/compute_time", self.computed)
        for buffer in self.runner.message_hub.log_scalars.values():
            buffer.max_length = min(buffer.max_length, LOG_VALUES)
        segments = len(step.batch["data_samples"])
        self.history.add(segments, self.loss, step.lr, step.waited, step.computed)
        self.report.step(self.history, segments, self.loss)

    def _bad_loss_error(self, step: Step) -> str:
        """Write the error about a loss that is NaN or infinite, with the ids of the segments.

        Only processes whose own loss is NaN or infinite name their segments.
        """
        samples = [] if math.isfinite(self.figures["loss"]) else step.batch["data_samples"]
        ids = itertools.chain(*from_all([sample.metainfo["narration_id"] for sample in samples]))
        return (
            f"epoch {self._epoch + 1}, iteration {step.number + 1}: the loss is {self.loss}; the "
            f"batch is {', '.join(ids)}; {last_saved(self.runner.work_dir)}; the same command ends "
            "here again, so lower the learning rate (that is another run; its `load_from` can be "
            "this checkpoint) or look at these segments"
        )

    def _save_if_due(self) -> None:
        """Save if a save is due, before a validation, and on a signal.

        Raises:
            Stopped: A signal asked to stop.
        """
        is_last = self._batches_done == len(self.dataloader)
        validates = is_last and self.validates_after(self._epoch + 1)
        # After the last batch of an epoch, `_end_epoch` saves anyway.
        is_due = not is_last and self.saves.due(self._iter, self.clock)
        if validates or is_due or self.stopping:
            path = self.save()
            if self.stopping:
                raise Stopped(
                    f"{self._signal} came: saved {path} after {self._iter} of {self._max_iters} "
                    "iterations and stopped; the same command goes on from there"
                )

    def save(self) -> Path:
        """Write a checkpoint of the present state, and return its path; it is then on the disk."""
        path = self._checkpoint_path
        # A loss that is NaN or infinite must stop the training before the save.
        self.catch_up()
        require_finite(self.runner)
        state = collect_state(self.runner, self.history, self._config_text, self.saves.stamp)
        on_rank_0(lambda: write_checkpoint(path, state, self.saves.keep))
        self.saves.last_save = self.clock
        return path

    def validates_after(self, epoch: int) -> bool:
        """Whether a validation follows this epoch, counted from 1."""
        if self.runner.val_loop is None or epoch < self.val_begin:
            return False
        return epoch % self.val_interval == 0 or epoch == self._max_epochs

    def _validate(self) -> dict[str, float]:
        """Validate if a validation follows this epoch, and return its figures; {} without one."""
        self._decide_current_val_interval()
        if not self.validates_after(self._epoch):
            return {}
        with self.report.show_validation(len(self.runner.val_dataloader.dataset)):
            return self.runner.val_loop.run()

    def after_val_batch(self, segments: int) -> None:
        """Report a batch of a validation, and stop on a signal.

        The state was saved before the validation, so a stop loses nothing.
        """
        self.report.advance_validation(segments)
        # All processes must decide alike, since those that go on would wait for the others.
        if any(from_all(self.signals.requested is not None)):
            raise Stopped(
                f"{self._signal} came in the validation after epoch {self._epoch}: stopped; "
                f"{self._checkpoint_path} was saved before it, and the same command goes on from "
                "there"
            )

    def _end_epoch(self, figures: dict[str, float]) -> None:
        """Add the row of an epoch to the table, and save; keep it as best by its action top-1."""
        self.history = self.history.after_epoch(self._epoch, self._iter, figures)
        self.report.end_epoch(self.history)
        is_best = figures.get(ACTION_TOP1, -math.inf) > self.history.best
        # The checkpoint has these two as well, so they are set before the save.
        if is_best:
            self.history.best = float(figures[ACTION_TOP1])
            self.history.best_iter = self._iter
        self.save()
        if is_best:
            on_rank_0(lambda: keep_as_best(self._checkpoint_path))

    @property
    def _checkpoint_path(self) -> Path:
        """Path of the checkpoint of the present batch."""
        return checkpoint_path(self.runner.work_dir, self._iter)

    @property
    def _signal(self) -> str:
        """Name of the signal that asked this process to stop, or words about another process."""
        return self.signals.requested or "a signal to another process"


@LOOPS.register_module()
class ClipValLoop(ValLoop):
    """MMEngine's validation, with the batches and forward passes of training and prediction.

    MMEngine's own loop always computes in float32, also if the training computes in another format.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the loop, with a mover of batches to the device and the recipe's number format."""
        super().__init__(*args, **kwargs)
        model = bare(self.runner.model)
        self.move = Mover(model.data_preprocessor.device)
        self.dtype = dtype_of(self.runner.cfg)

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Compute the scores of one batch, and give them to the metric."""
        self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=data_batch)
        model = bare(self.runner.model)
        batch = self.move(data_batch)
        clips = batch["inputs"]
        # A 2D model sees the frames of a clip as pictures.
        frames = clips[0].shape[0] if clips[0].dim() == 4 else None
        views = sum(1 if frames else len(clip) for clip in clips)
        scores = torch.cat(list(scores_of_views(model, clips, views, frames, self.dtype)))
        outputs = model.cls_head.predict_by_feat(scores, batch["data_samples"])
        self.evaluator.process(data_samples=outputs, data_batch=batch)
        self.runner.call_hook("after_val_iter", batch_idx=idx, data_batch=batch, outputs=outputs)
        self.runner.train_loop.after_val_batch(len(batch["data_samples"]))


class QuietRunner(Runner):
    """MMEngine's Runner, but its info lines go only to its log file in the work directory.

    The terminal and the rule's log get its warnings.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build MMEngine's logger and limit what it prints on the terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(max(handler.level, logging.WARNING))
        return logger

    def build_model(self, model: Any) -> nn.Module:
        """Build the model, and freeze BatchNorm if configured."""
        built = super().build_model(model)
        # The hook itself runs too late for this: MMEngine wraps the model right after it is built.
        if any(hook.type == "FrozenBatchNormHook" for hook in custom_hooks(self.cfg)):
            freeze_scales(built)
        return built


class ShortRunner(QuietRunner):
    """The Runner of a check: it writes no log file and no lines about the machine."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build a logger without a file, because the training itself makes MMEngine's log file."""
        return MMLogger.get_instance(self._experiment_name, log_level="WARNING")

    def _log_env(self, env_cfg: dict) -> None:
        """Log nothing, in place of MMEngine's lines about the machine."""


class RestOfOrder(Sampler):
    """The order of another sampler without the first `start` samples.

    Its length stays that of the whole order, so that the loader counts the batches of a whole
    epoch.
    """

    def __init__(self, order: Any) -> None:
        """Take the whole order, from its first sample on; the loop sets `start`."""
        self.order = order
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        """Iterate over the samples that are left."""
        return itertools.islice(iter(self.order), self.start, None)

    def __len__(self) -> int:
        """Return the length of the whole order."""
        return len(self.order)
