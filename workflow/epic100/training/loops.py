"""The two loops of a training: MMEngine's own, with one method of each changed."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, ValLoop
from torch.utils.data import BatchSampler, Sampler

import epic100.clips.dataset
import epic100.model.registered
import epic100.scoring.pair_metric  # noqa: F401  (registers what a recipe names)
from epic100.base.errors import EpicError
from epic100.base.stop import shelter_workers
from epic100.model.precision import dtype_of


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
        shelter_workers(self.dataloader)

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


@LOOPS.register_module()
class PrecisionValLoop(ValLoop):
    """MMEngine's validation in the number format of the training.

    MMEngine's `fp16` switches autocast on, but always to torch's default type, float16.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build MMEngine's loop; its workers leave signals to this process."""
        super().__init__(*args, **kwargs)
        shelter_workers(self.dataloader)

    def run(self) -> dict[str, float]:
        """Validate, and return the metrics by name."""
        dtype = dtype_of(self.runner.cfg)
        self.fp16 = dtype is not None
        torch.set_autocast_dtype("cuda", dtype or torch.float16)
        return super().run()
