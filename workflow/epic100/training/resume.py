"""What makes a training that was killed or stopped go on to the same weights, also inside an epoch.

MMEngine saves and resumes epochs. It does not save by time or on a signal, does not begin inside an
epoch, and restores no random state.
"""

import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.registry import HOOKS, LOOPS
from mmengine.dist import all_reduce, get_rank
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils._pytree import tree_map_only
from torch.utils.data import BatchSampler, Sampler

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.stop import Stopped, StopSignals, ignore_signals

log = logging.getLogger(__name__)

# The state inside an epoch; MMEngine writes `epoch_{n}.pth` after an epoch.
INSIDE_EPOCH = "inside_epoch.pth"


def newest_checkpoint(run: Path) -> Path | None:
    """Find the checkpoint with the most iterations that can be read; say which cannot.

    Args:
        run: The folder of the training.
    """
    iterations: dict[Path, int] = {}
    for path in (*run.glob("epoch_*.pth"), *run.glob(INSIDE_EPOCH)):
        try:
            # Mapped to memory, only the file's table of contents is read here.
            content = torch.load(path, "cpu", weights_only=True, mmap=True)
            iterations[path] = content["meta"]["iter"]
        except Exception as error:  # A broken file can raise any error.
            reason = " ".join(str(error).split())[:100]
            log.warning(f"{path}: cannot be read ({reason}); the one before it is taken")
    return max(iterations, key=iterations.__getitem__, default=None)


def last_saved(runner: Runner) -> str:
    """Name the newest checkpoint of a training, for an error message."""
    path = newest_checkpoint(Path(runner.work_dir))
    return f"the last good checkpoint is {path}" if path else "nothing was saved before"


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Seeds augmentation with (seed, epoch, sample), and dropout with (seed, iteration, rank).

    MMEngine restores no random state on resume and gives workers the same seeds in every epoch.
    With these seeds nothing needs restoring, and the number of workers does not change the result.
    """

    # It runs before any random number is drawn.
    priority = 10

    def before_train_epoch(self, runner: Runner) -> None:
        """Pass the epoch to the data set, also in workers that are already running."""
        runner.train_dataloader.dataset.set_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the random draws of the model in this iteration."""
        # Rank and iteration have separate bits: up to 2**8 ranks and 2**24 iterations.
        torch.manual_seed((runner.seed << 32) + (runner.iter << 8) + get_rank())
        np.random.seed([runner.seed, runner.iter, get_rank()])  # TRN's head draws from NumPy.


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, which can begin inside an epoch.

    MMEngine resumes at the beginning of an epoch only (`EpochBasedTrainLoop.run_epoch` begins with
    the first batch). Here the sampler leaves out the batches that are done. It works with every
    sampler whose order depends on its seed and epoch alone.

    Raises:
        EpicError: The loader has a batch sampler of another class than torch's own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build MMEngine's loop, and put `RestOfOrder` between its sampler and its batches."""
        super().__init__(*args, **kwargs)
        batch_sampler = self.dataloader.batch_sampler
        if type(batch_sampler) is not BatchSampler:
            raise EpicError(
                f"train_dataloader.batch_sampler is {type(batch_sampler).__name__}; a training can "
                "go on inside an epoch with torch's BatchSampler only; choose a `sampler` instead"
            )
        self._order = RestOfOrder(batch_sampler.sampler)
        batch_sampler.sampler = self._order

    def run_epoch(self) -> None:
        """Train on the batches that are left of this epoch."""
        runner, batches = self.runner, len(self.dataloader)
        runner.call_hook("before_train_epoch")
        runner.model.train()
        done = self._iter - self._epoch * batches
        self._order.done = done * self.dataloader.batch_size
        # No checkpoint has gradients that wait for more batches (`accumulative_counts`), so the
        # last update of an epoch takes what is left of it.
        runner.optim_wrapper.initialize_count_status(runner.model, done, batches)
        for index, batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, batch)
        runner.call_hook("after_train_epoch")
        self._epoch += 1


class RestOfOrder(Sampler):
    """The order of another sampler without the first `done` samples.

    Its length stays the length of the complete order, so that the loader counts the batches of an
    epoch.
    """

    def __init__(self, order: Any) -> None:
        """Take the complete order, from its first sample on; the loop sets `done`."""
        self.order = order
        self.done = 0

    def __iter__(self) -> Iterator[int]:
        """Iterate over the samples that are left."""
        return itertools.islice(iter(self.order), self.done, None)

    def __len__(self) -> int:
        """Return the length of the complete order."""
        return len(self.order)


@register_backend("whole")
class CompleteFiles(LocalBackend):
    """MMEngine's files on a disk, but a file gets its name only when all of it is written."""

    def put(self, obj: bytes, filepath: str) -> None:
        """Write bytes to a file."""
        with atomic_path(filepath) as temporary:
            temporary.write_bytes(obj)


@HOOKS.register_module()
class SaveHook(CheckpointHook):
    """MMEngine's CheckpointHook, which also saves inside an epoch: by time, and on a signal.

    After an epoch MMEngine writes `epoch_{n}.pth`. Inside an epoch this hook writes
    `inside_epoch.pth`, always the same file.

    Args:
        seconds: Seconds from the last save to the next one.
        **kwargs: The arguments of CheckpointHook.

    Raises:
        Stopped: A signal asked to stop, and the state is saved.
    """

    def __init__(self, seconds: float = 600.0, **kwargs: Any) -> None:
        """Store the time between two saves; the class describes it."""
        super().__init__(**{"interval": 1, "backend_args": {"backend": "whole"}, **kwargs})
        self.seconds = seconds
        self.signals = StopSignals()

    def before_train(self, runner: Runner) -> None:
        """Begin to count the seconds; make up for a validation that a kill has cut short."""
        super().before_train(runner)
        self.last_save = time.monotonic()
        # MMEngine saves an epoch before its validation, and does not validate it on a resume.
        loop, rows = runner.train_loop, runner.message_hub.runtime_info.get("rows")
        is_due = loop.epoch % loop.val_interval == 0 or loop.epoch == loop.max_epochs
        is_missing = rows and "action_top1" not in rows[-1]
        if runner.val_loop and is_missing and is_due and loop.epoch >= loop.val_begin:
            runner.val_loop.run()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save if the time has come or a signal asked to stop."""
        # After the last batch the epoch is saved anyway. Gradients that wait for more batches are
        # in no checkpoint.
        is_last = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if is_last or not runner.optim_wrapper.should_update():
            return
        stops = self._all_stop()
        if stops or time.monotonic() - self.last_save >= self.seconds:
            runner.save_checkpoint(
                self.out_dir, INSIDE_EPOCH, by_epoch=False, backend_args=self.backend_args
            )
            self.last_save = time.monotonic()
        if stops:
            self._stop(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save the epoch, and stop if a signal asked to."""
        super().after_train_epoch(runner)
        self.last_save = time.monotonic()
        if self._all_stop():
            self._stop(runner, runner.iter)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop if a signal asked to; the epoch was saved before its validation."""
        if self._all_stop():
            self._stop(runner, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint one that `weights_only=True` reads, and reject NaN in its weights."""
        # MMEngine's logs are objects with NumPy arrays. No resume needs them.
        checkpoint["message_hub"]["log_scalars"] = {}
        for key in ("message_hub", "param_schedulers"):
            checkpoint[key] = tree_map_only(np.generic, np.generic.item, checkpoint.get(key))
        bad = [
            name for name, value in checkpoint["state_dict"].items() if not value.isfinite().all()
        ]
        if bad:
            raise EpicError(
                f"epoch {runner.epoch + 1}, iteration {runner.iter + 1}: {len(bad)} weights have "
                f"NaN or infinite values, {bad[0]} first, and are not saved; "
                f"{last_saved(runner)}; lower the learning rate"
            )

    def _all_stop(self) -> bool:
        """Whether a signal has asked any of the processes to stop; all get the same answer."""
        requested = torch.tensor(float(self.signals.requested is not None))
        all_reduce(requested, "max")
        return bool(requested)

    def _stop(self, runner: Runner, iterations: int) -> None:
        """Raise Stopped after this number of finished iterations."""
        signal_name = self.signals.requested or "a signal to another process"
        raise Stopped(
            f"{signal_name} came: saved after {iterations} of {runner.max_iters} iterations in "
            f"{runner.work_dir} and stopped; the same command goes on from there"
        )


# A loader calls it in each of its workers (`training.plan`).
FUNCTIONS.register_module("ignore_signals", module=ignore_signals)
