"""MMEngine's Runner with less on the screen, and its epoch loop, resumed at the exact batch."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    broadcast_object_list,
    get_world_size,
    is_main_process,
)
from mmengine.logging import MMLogger
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import BatchSampler, Sampler

from epic100.base.errors import EpicError
from epic100.clips.faults import ended_workers_are_errors
from epic100.training.checkpoints import checkpoints
from epic100.training.hooks import freeze_scales
from epic100.training.stop import StopSignals, end_workers, shelter_workers

Result = TypeVar("Result")


def on_rank_0(task: Callable[[], Result]) -> Result:
    """Run `task` on rank 0 only and give its result to all ranks.

    All ranks must call it together.

    Raises:
        EpicError: The task raised it on rank 0; every rank then raises it.
    """
    outcome: list[Any] = [None, None]  # the result, or the message of an error
    if is_main_process():
        try:
            outcome[0] = task()
        except EpicError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise EpicError(outcome[1])
    return outcome[0]


class QuietRunner(Runner):
    """MMEngine's Runner, but its info lines go only to its log file in the work directory.

    The terminal and the rule's log get its warnings.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build MMEngine's logger and limit what it prints on the terminal."""
        logger = super().build_logger(*args, **kwargs)
        quiet(logger)
        return logger

    def build_model(self, model: Any) -> nn.Module:
        """Build the model, and freeze BatchNorm if configured."""
        built = super().build_model(model)
        hooks = self.cfg.get("custom_hooks") or []
        if any(hook["type"] == "FrozenBatchNormHook" for hook in hooks):
            freeze_scales(built)
        return built


def quiet(logger: MMLogger) -> None:
    """Let only warnings of this logger reach the terminal."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(max(handler.level, logging.WARNING))


class RestOfOrder(Sampler):
    """Another sampler's order without its first `start` samples; its length stays the full one."""

    def __init__(self, order: Any) -> None:
        self.order = order
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.order), self.start, None)

    def __len__(self) -> int:
        return len(self.order)


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's epoch loop, but an interrupted run resumes at the batch after the last saved one.

    It works with any sampler that derives its order from its seed and epoch.

    `epoch` counts finished epochs, including their validation; `iter` counts finished batches of
    all epochs. So a state saved after the last batch of an epoch differs from one saved after its
    validation.

    After each iteration, all ranks have the same `loss` (mean over ranks), `clock` (rank 0's
    monotonic clock, seconds) and `stopping` (whether any rank was asked to stop). `waited` and
    `computed` are each rank's own seconds for data and for the step, without hooks.

    Hooks may define `after_whole_epoch(runner, metrics)`, called after the epoch and its
    validation, if due, and `at_end(runner)`, called however the training ends.

    Raises:
        EpicError: The loss is NaN or infinite: the error names the batch, nothing is saved. Or a
            process that reads clips was killed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss = math.nan
        self.clock = 0.0
        self.waited = self.computed = 0.0
        self.stopping = False
        self.signals = StopSignals()
        batches = self.dataloader.batch_sampler
        if type(batches) is not BatchSampler:
            raise EpicError(
                f"train_dataloader.batch_sampler is {type(batches).__name__}; ResumableEpochLoop "
                "can begin inside an epoch with torch's own only; choose a `sampler` instead"
            )
        self._rest = RestOfOrder(batches.sampler)
        batches.sampler = self._rest

    def run(self) -> torch.nn.Module:
        """Train to the last epoch."""
        self.clock = on_rank_0(time.monotonic)
        loaders = [self.dataloader]
        if self.runner.val_loop is not None:
            loaders.append(self.runner.val_loop.dataloader)
        for loader in loaders:
            shelter_workers(loader)
        try:
            with self.signals.noting(), ended_workers_are_errors():
                self._run_epochs()
        finally:
            self.runner.call_hook("at_end")
            for loader in loaders:
                end_workers(loader)
        return self.runner.model

    def _run_epochs(self) -> None:
        self.runner.call_hook("before_train")
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            due = self.validates_after(self._epoch)
            metrics = self.runner.val_loop.run() if due else {}
            self.runner.call_hook("after_whole_epoch", metrics=metrics)
        self.runner.call_hook("after_train")

    def validates_after(self, epoch: int) -> bool:
        """Whether a validation follows this epoch, counted from 1."""
        if self.runner.val_loop is None or epoch < self.val_begin:
            return False
        return epoch % self.val_interval == 0 or epoch == self._max_epochs

    def run_epoch(self) -> None:
        """Train on the batches of this epoch that are not done yet."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self._rest.start = done * self.dataloader.batch_size
        if done < len(self.dataloader):
            for idx, batch in enumerate(self._batches(), start=done):
                self.run_iter(idx, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _batches(self) -> Iterator[dict]:
        before = time.perf_counter()
        for batch in self.dataloader:
            self.waited = time.perf_counter() - before
            yield batch
            before = time.perf_counter()

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Train on one batch.

        Args:
            idx: Index of the batch in the epoch, from 0.
            data_batch: The collated batch.
        """
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        started = time.perf_counter()
        outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        self._agree(float(outputs["loss"].detach()), data_batch)
        self.computed = time.perf_counter() - started
        runner.call_hook("after_train_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def stop_requested(self) -> bool:
        """Whether any rank was asked to stop; all ranks must call it together."""
        flag = torch.tensor(float(self.signals.requested is not None))
        all_reduce(flag, op="max")
        return bool(flag)

    def _agree(self, loss: float, data_batch: dict) -> None:
        """Sum loss, clock and stop requests over ranks, so that all ranks decide the same."""
        clock = time.monotonic() if is_main_process() else 0.0
        stop = self.signals.requested is not None
        total = torch.tensor([loss, clock, stop], dtype=torch.float64)
        all_reduce(total, op="sum")
        self.loss, self.clock = float(total[0]) / get_world_size(), float(total[1])
        self.stopping = bool(total[2])
        if not math.isfinite(self.loss):
            raise EpicError(self._about_bad_loss(loss, data_batch))

    def _about_bad_loss(self, loss: float, data_batch: dict) -> str:
        own = [] if math.isfinite(loss) else narration_ids(data_batch)
        ids = list(itertools.chain(*all_gather_object(own)))
        saved = checkpoints(self.runner.work_dir)
        kept = f"the last good checkpoint is {saved[0]}" if saved else "nothing was saved before"
        return (
            f"epoch {self._epoch + 1}, iteration {self._iter + 1}: the loss is {self.loss}; the "
            f"batch is {', '.join(ids)}; {kept}; the same command ends here again, so lower the "
            "learning rate (that is another run; its `load_from` can be this checkpoint) or look "
            "at these segments"
        )


def narration_ids(data_batch: dict) -> list[str]:
    """The narration_id of each segment of a batch."""
    return [sample.metainfo["narration_id"] for sample in data_batch["data_samples"]]
