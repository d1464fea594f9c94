"""A training step that a GPU may still be computing, and whose figures are read later."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from epic100.base.ranks import rank, world


class Mark:
    """A point in the work queue of a device, and the time when the device reaches it.

    A CPU has no queue: it reaches the point at once.

    Args:
        device: The device; the point is after all work that it was given so far.
    """

    def __init__(self, device: torch.device) -> None:
        """Add the mark to the queue of a GPU; note the time on a CPU."""
        self._time = time.perf_counter()
        self._event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        if self._event:
            self._event.record()

    def reach(self) -> None:
        """Wait until the device reaches this point."""
        if self._event:
            self._event.synchronize()

    def since(self, other: "Mark") -> float:
        """Return the seconds from another point to this one; both must be reached."""
        if self._event and other._event:
            return other._event.elapsed_time(self._event) / 1000  # It is in milliseconds.
        return self._time - other._time


@dataclass
class Step:
    """A training step that was given to the device; `send` and then `read` transfer its figures.

    Args:
        number: Number of batches that were finished before this step.
        batch: The batch of the step.
        lr: The learning rate of the step.
        waited: Seconds that the process waited for the batch. After `read`, the seconds in which
            the device had no data.
        before: The end of the step before; None for the first step of an epoch.
        began: The beginning of the step.
        ended: The end of the step.
    """

    number: int
    batch: dict
    lr: float
    waited: float
    before: Mark | None
    began: Mark
    ended: Mark

    def send(self, outputs: dict[str, torch.Tensor], stop_requested: bool) -> None:
        """Start to copy the figures from the device, after the work that it was given so far.

        Loss, clock and stop requests are summed over processes, so that all decide the same.

        Args:
            outputs: The figures of the step by name, the loss among them.
            stop_requested: Whether a signal asked this process to stop.
        """
        self._names = list(outputs)
        loss = outputs["loss"].detach().double()
        figures = torch.stack([value.detach().to(loss).reshape(()) for value in outputs.values()])
        # The other ranks add 0, so the sum over processes is rank 0's clock.
        clock = time.monotonic() if rank() == 0 else 0.0
        # The third value counts the processes that were asked to stop.
        sums = torch.stack(
            [loss, torch.full_like(loss, clock), torch.full_like(loss, stop_requested)]
        )
        if world() > 1:
            torch.distributed.all_reduce(sums)
        # A copy from a GPU goes into pinned memory, so the process does not wait for it.
        self._sent = torch.cat([sums, figures]).to("cpu", non_blocking=True)
        # The copy is in the queue behind `ended`, so it has a mark of its own.
        self._copied = Mark(loss.device)

    def read(self) -> tuple[float, float, bool, dict[str, float]]:
        """Wait for the step, and return its figures; set `computed`, and correct `waited`.

        Returns:
            The mean loss over processes, the clock of rank 0, whether any process was asked to
            stop, and the figures of this process by name.
        """
        self._copied.reach()
        loss, clock, stop, *values = self._sent.numpy()
        # A process may wait for data while the device still computes the step before. So only the
        # time counts in which the device had no work.
        if self.before:
            self.waited = min(self.waited, self.began.since(self.before))
        self.computed = self.ended.since(self.began)
        figures = dict(zip(self._names, values, strict=True))
        return float(loss) / world(), float(clock), bool(stop), figures


def clip_without_reading(wrapper: Any) -> None:
    """Let an optimizer wrapper clip gradients without a wait for their norm.

    The norm stays on the device, as `wrapper.norm`. MMEngine's own clipping reads it in each step,
    so the process waits for the device before the optimizer's step.

    Args:
        wrapper: MMEngine's optimizer wrapper; its `_clip_grad` is replaced.
    """

    def clip() -> None:
        """Clip the gradients of all parameters together."""
        groups = wrapper.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        if parameters:
            wrapper.norm = wrapper.clip_func(parameters, **wrapper.clip_grad_kwargs)

    wrapper._clip_grad = clip
