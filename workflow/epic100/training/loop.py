"""MMEngine's Runner with less on the screen, and its epoch loop, resumed at the exact batch."""

import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner, ValLoop
from torch import nn
from torch.utils.data import BatchSampler, Sampler

import epic100.model.registered
import epic100.training.parameter_groups
import epic100.training.report
import epic100.training.state
import epic100.training.validation  # noqa: F401  (these register what a config names)
from epic100.base.errors import EpicError
from epic100.base.ranks import from_all, on_rank_0, rank, world
from epic100.base.stop import StopSignals, end_workers, shelter_workers
from epic100.clips.dataset import Mover
from epic100.clips.faults import ended_workers_are_errors
from epic100.model.forward import bare, scores_of_views, train_step
from epic100.model.precision import dtype_of
from epic100.training.hooks import freeze_scales
from epic100.training.run import last_saved


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
        hooks = self.cfg.get("custom_hooks") or []
        if any(hook["type"] == "FrozenBatchNormHook" for hook in hooks):
            freeze_scales(built)
        return built


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

    On a GPU no step waits for the device. What a step gave is read when the next one is on its way
    (`behind`), or when the epoch ends or something is saved (`catch_up`). What hooks get as
    `outputs` is what was read last: numbers. On a CPU each step is read at once.

    After a step is read, all ranks have the same `loss` (mean over ranks), `clock` (rank 0's
    monotonic clock, seconds) and `stopping` (whether any rank was asked to stop; one process alone
    knows it at once). `segments` were in its batch. `waited` and `computed` are each rank's own
    seconds in which the device had no data, and for the step, without hooks.

    Hooks may define `after_reading(runner)`, called after a step is read;
    `after_whole_epoch(runner, metrics)`, called after the epoch and its validation, if due; and
    `at_end(runner)`, called however the training ends.

    Raises:
        EpicError: The loss is NaN or infinite: the error names the batch, nothing is saved. Or a
            process that reads clips was killed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss = math.nan
        self.clock = 0.0
        self.waited = self.computed = 0.0
        self.segments = 0
        self.figures: dict[str, float] = {}
        self.stopping = False
        self.most: int | None = None  # segments that are trained on at the same time
        self.dtype = dtype_of(self.runner.cfg)
        self._device = next(self.runner.model.parameters()).device
        self.behind = int(self._device.type == "cuda")
        self._unread: list[Step] = []
        self._before: Mark | None = None  # the end of the step before, in this epoch
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
        if isinstance(self.runner.optim_wrapper, OptimWrapper):
            clip_without_reading(self.runner.optim_wrapper)
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
            for idx, (batch, waited) in enumerate(self._batches(), start=done):
                self.run_iter(idx, batch, waited)
        self.catch_up()
        self._before = None
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _batches(self) -> Iterator[tuple[dict, float]]:
        move = Mover(self._device)
        before = time.perf_counter()
        for batch in self.dataloader:
            waited = time.perf_counter() - before
            yield move(batch), waited
            before = time.perf_counter()

    def run_iter(self, idx: int, data_batch: dict, waited: float = 0.0) -> None:
        """Train on one batch.

        Args:
            idx: Index of the batch in the epoch, from 0.
            data_batch: The collated batch.
            waited: Seconds that this process waited for it.
        """
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        began = Mark(self._device)
        outputs = train_step(
            runner.model, data_batch, runner.optim_wrapper, most=self.most, dtype=self.dtype
        )
        if (norm := getattr(runner.optim_wrapper, "norm", None)) is not None:
            outputs["grad_norm"] = norm
        sent = self._sent(outputs)
        step = Step(self._epoch, self._iter, data_batch, waited, self._before, began,
                    Mark(self._device), list(outputs), sent)  # fmt: skip
        self._before = step.ended
        self._unread.append(step)
        self.catch_up(self.behind)
        runner.call_hook(
            "after_train_iter", batch_idx=idx, data_batch=data_batch, outputs=self.figures
        )
        self._iter += 1

    def catch_up(self, behind: int = 0) -> None:
        """Read the steps that are on their way, but for the last `behind` ones.

        Raises:
            EpicError: A loss is NaN or infinite.
        """
        while len(self._unread) > behind:
            self._read(self._unread.pop(0))
        if world() == 1:
            self.stopping = self.signals.requested is not None

    def stop_requested(self) -> bool:
        """Whether any rank was asked to stop; all ranks must call it together."""
        return any(from_all(self.signals.requested is not None))

    def _sent(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Start to send what a step gave to the host: float64, first what all ranks agree on.

        Loss, clock and stop requests are summed over ranks, so that all ranks decide the same.
        """
        loss = outputs["loss"].detach().double()
        own = torch.stack([value.detach().to(loss).reshape(()) for value in outputs.values()])
        clock = time.monotonic() if rank() == 0 else 0.0
        stop = float(self.signals.requested is not None)
        agreed = torch.stack([loss, torch.full_like(loss, clock), torch.full_like(loss, stop)])
        if world() > 1:
            torch.distributed.all_reduce(agreed)
        return torch.cat([agreed, own]).to("cpu", non_blocking=True)  # on a GPU into pinned memory

    def _read(self, step: "Step") -> None:
        step.ended.reach()
        loss, clock, stop, *own = step.sent.numpy()
        self.figures = dict(zip(step.names, own, strict=True))
        self.loss, self.clock = float(loss) / world(), float(clock)
        self.stopping, self.segments = bool(stop), len(step.batch["data_samples"])
        idle = step.began.since(step.before) if step.before else step.waited
        self.waited, self.computed = min(step.waited, idle), step.ended.since(step.began)
        if not math.isfinite(self.loss):
            raise EpicError(self._about_bad_loss(step))
        self.runner.call_hook("after_reading")

    def _about_bad_loss(self, step: "Step") -> str:
        wrong = [] if math.isfinite(self.figures["loss"]) else step.batch["data_samples"]
        own = [sample.metainfo["narration_id"] for sample in wrong]
        ids = list(itertools.chain(*from_all(own)))
        return (
            f"epoch {step.epoch + 1}, iteration {step.iteration + 1}: the loss is {self.loss}; the "
            f"batch is {', '.join(ids)}; {last_saved(self.runner.work_dir)}; the same command ends "
            "here again, so lower the learning rate (that is another run; its `load_from` can be "
            "this checkpoint) or look at these segments"
        )


@LOOPS.register_module()
class ClipValLoop(ValLoop):
    """MMEngine's validation, with batches and forward passes as training and prediction have them.

    MMEngine's own computes in float32 whatever the training computes in.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = bare(self.runner.model)
        self.move = Mover(model.data_preprocessor.device)
        self.dtype = dtype_of(self.runner.cfg)

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Score one batch, and give its scores to the metric."""
        self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=data_batch)
        batch, model = self.move(data_batch), bare(self.runner.model)
        clips, samples = batch["inputs"], batch["data_samples"]
        # A 2D model sees the frames of a clip as pictures.
        frames = clips[0].shape[0] if clips[0].dim() == 4 else None
        views = sum(1 if frames else len(clip) for clip in clips)
        scores = torch.cat(list(scores_of_views(model, clips, views, frames, self.dtype)))
        outputs = model.cls_head.predict_by_feat(scores, samples)
        self.evaluator.process(data_samples=outputs, data_batch=batch)
        self.runner.call_hook("after_val_iter", batch_idx=idx, data_batch=batch, outputs=outputs)


class Mark:
    """A place in the work of a device, and when it is reached. A CPU is there at once.

    Args:
        device: The device; the place is behind all work that it was given.
    """

    def __init__(self, device: torch.device) -> None:
        self._time = time.perf_counter()
        self._event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        if self._event:
            self._event.record()

    def reach(self) -> None:
        """Wait until the device is there."""
        if self._event:
            self._event.synchronize()

    def since(self, other: "Mark") -> float:
        """Seconds between another place and this one; both must be reached."""
        if self._event and other._event:
            return other._event.elapsed_time(self._event) / 1000
        return self._time - other._time


@dataclass(frozen=True)
class Step:
    """A step that the device was given.

    Args:
        epoch: Finished epochs before it.
        iteration: Finished batches before it.
        batch: Its batch.
        waited: Seconds that the process waited for the batch.
        before: The end of the step before; None for the first of an epoch.
        began: Its beginning.
        ended: Its end.
        names: Names of its figures.
        sent: What it gives (`ResumableEpochLoop._sent`), there when `ended` is reached.
    """

    epoch: int
    iteration: int
    batch: dict
    waited: float
    before: Mark | None
    began: Mark
    ended: Mark
    names: list[str]
    sent: torch.Tensor


def clip_without_reading(wrapper: OptimWrapper) -> None:
    """Let an optimizer wrapper leave the norm of the gradients where they are, as `norm`.

    MMEngine's own reads it from the device in each step, before the optimizer's.
    """

    def clip() -> None:
        groups = wrapper.optimizer.param_groups
        found = [p for group in groups for p in group["params"] if p.grad is not None]
        if found:
            wrapper.norm = wrapper.clip_func(found, **wrapper.clip_grad_kwargs)

    wrapper._clip_grad = clip
