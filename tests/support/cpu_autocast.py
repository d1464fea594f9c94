"""Autocast and gradient scaling as a GPU has them, on a CPU, which MMEngine refuses both."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import amp

from epic100.training import plan


def autocast_on_cpu(put: Callable[[Any, str, Any], None]) -> None:
    """Put torch's own for the CPU in place of what asks for CUDA.

    Args:
        put: `setattr`, or a monkeypatch's.
    """
    put(plan, "autocast_refused", lambda precision, device: None)
    put(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    put(amp_optimizer_wrapper, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    put(amp, "autocast", partial(torch.autocast, "cpu"))
