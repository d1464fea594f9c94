"""A step of a training that is on its way: on a GPU, nothing waits for it until it is read."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from epic100.base.ranks import rank, world


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


@dataclass
class Step:
    """A step that the device was given, on its way to be read.

    Args:
        number: Finished batches before it.
        batch: Its batch.
        lr: Its learning rate.
        waited: Seconds that the process waited for the batch; once read, those in which the device
            had no data.
        before: The end of the step before; None for the first of an epoch.
        began: Its beginning.
        ended: Its end.
    """

    number: int
    batch: dict
    lr: float
    waited: float
    before: Mark | None
    began: Mark
    ended: Mark

    def send(self, outputs: dict[str, torch.Tensor], asked: bool) -> None:
        """Start to send what the step gives to the host; it is there when `ended` is reached.

        Loss, clock and stop requests are summed over processes, so that all decide the same.

        Args:
            outputs: Its figures by name, the loss among them.
            asked: Whether this process was asked to stop.
        """
        self._names, loss = list(outputs), outputs["loss"].detach().double()
        figures = torch.stack([value.detach().to(loss).reshape(()) for value in outputs.values()])
        clock = time.monotonic() if rank() == 0 else 0.0
        agreed = torch.stack([loss, torch.full_like(loss, clock), torch.full_like(loss, asked)])
        if world() > 1:
            torch.distributed.all_reduce(agreed)
        # A copy from a GPU goes into pinned memory, so the process does not wait for it.
        self._sent = torch.cat([agreed, figures]).to("cpu", non_blocking=True)

    def read(self) -> tuple[float, float, bool, dict[str, float]]:
        """Mean loss, rank 0's clock, whether any process was asked to stop; the own figures."""
        self.ended.reach()
        loss, clock, stop, *values = self._sent.numpy()
        idle = self.began.since(self.before) if self.before else self.waited
        self.waited, self.computed = min(self.waited, idle), self.ended.since(self.began)
        figures = dict(zip(self._names, values, strict=True))
        return float(loss) / world(), float(clock), bool(stop), figures


def clip_without_reading(wrapper: Any) -> None:
    """Let an optimizer wrapper leave the norm of the gradients where they are, as `norm`.

    MMEngine's own reads it from the device in each step, before the optimizer's.

    Args:
        wrapper: MMEngine's.
    """

    def clip() -> None:
        groups = wrapper.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        if parameters:
            wrapper.norm = wrapper.clip_func(parameters, **wrapper.clip_grad_kwargs)

    wrapper._clip_grad = clip
