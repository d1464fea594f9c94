"""Which GPUs this process may use, and whether it must use one: a paid GPU must not stay idle.

torch sees no GPU if the driver is too old or if torch was built without CUDA, and it reports
neither. A job that then trained on the CPU would only seem slow.
"""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from epic100.base.errors import EpicError
from epic100.base.jobs import JOB_ID

log = logging.getLogger(__name__)

# First words of `CUDA_VISIBLE_DEVICES` that mean no GPU. Some schedulers write `NoDevFiles`.
NONE = ("", "-1", "NoDevFiles")


def unusable(device: str = "cuda") -> str | None:
    """Return torch's reason why it cannot compute on a GPU (first line only); None if it can."""
    try:
        torch.ones(1, device=device).add(1).item()
    except (RuntimeError, AssertionError) as error:  # A build of torch without CUDA asserts.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0].rstrip(".")
    return None


@dataclass(frozen=True)
class Gpus:
    """The GPUs of this process.

    Attributes:
        visible: Number of GPUs that torch sees.
        granted: Evidence that the job was granted a GPU, as text for messages, or None.
        has_device_files: Whether the machine has device files of GPUs.
        why_not: A function that returns torch's reason why it cannot compute on the first GPU, or
            None. It starts CUDA, so it is called only when the answer matters.
    """

    visible: int
    granted: str | None = None
    has_device_files: bool = False
    why_not: Callable[[], str | None] = unusable


def look_for_gpus(requested: int = 0, environment: Mapping[str, str] = os.environ) -> Gpus:
    """Find the GPUs of this process.

    Args:
        requested: Number of GPUs that the rule requests (its resource `gpu`). It counts in a
            cluster's job.
        environment: Environment variables.
    """
    granted = None
    # Slurm sets both, and the first one also where the site does not bind GPUs to jobs.
    for variable in ("SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"):
        device_list = environment.get(variable, "").strip()
        if granted is None and device_list.split(",")[0] not in NONE:
            granted = f"{variable} is {device_list}"
    if granted is None and requested and JOB_ID in environment:
        granted = f"the rule's resource `gpu` is {requested} in job {environment[JOB_ID]}"
    return Gpus(
        visible=torch.cuda.device_count(),
        granted=granted,
        has_device_files=any(Path("/dev").glob("nvidia[0-9]*")),
        # A second call returns the first answer, so that CUDA is started once.
        why_not=functools.cache(unusable),
    )


def gpus_to_use(section: str, device: str, gpus: int | None, available: Gpus) -> int:
    """Decide on how many GPUs a section of the config computes.

    Args:
        section: `train` or `predict`, for messages.
        device: The section's key `device`: auto, cuda or cpu.
        gpus: The section's key `gpus`. None means one GPU if there is one.
        available: The GPUs of this process.

    Returns:
        Number of GPUs; 0 means the CPU.

    Raises:
        EpicError: A GPU was granted or requested but torch cannot use it.
    """
    if device == "cpu" or gpus == 0:
        return 0
    count = gpus or 1
    # With several GPUs, the ranks are other processes, so CUDA is not started in this one.
    why_not = available.why_not() if count == 1 or available.visible < count else None
    if available.visible >= count and why_not is None:
        return count
    reason_for_gpu = _why_gpu_needed(section, device, gpus, available)
    torch_finding = f"torch {torch.__version__} sees {available.visible} GPUs here"
    if why_not:
        torch_finding += f" and cannot use one ({why_not})"
    if reason_for_gpu is None:
        if available.visible or available.has_device_files:
            log.warning(
                f"{section}: this machine has a GPU, but {torch_finding}: on the CPU instead"
            )
        return 0
    raise EpicError(
        f"{reason_for_gpu}, but {torch_finding}; expected at least {count}: install a torch that "
        "fits the driver and the GPU (docs/platforms.md), ask for enough of them, or set "
        f"`{section}: device: cpu` to compute on the CPU"
    )


def _why_gpu_needed(section: str, device: str, gpus: int | None, available: Gpus) -> str | None:
    """Return why the section must not fall back to the CPU, as text; None if it may."""
    if gpus:
        return f"{section}.gpus is {gpus}"
    return f"{section}.device is cuda" if device == "cuda" else available.granted
