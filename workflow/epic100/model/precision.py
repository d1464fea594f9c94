"""The precision of a forward pass, and the memory layout of weights that suits it.

A recipe states the precision; a device that lacks it computes in float32.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(config: Mapping[str, Any]) -> torch.dtype | None:
    """Read the type that a training computes in from its MMEngine config; None is float32.

    Args:
        config: The config, of a recipe or of a model file.
    """
    wrapper = config.get("optim_wrapper") or {}
    # MMEngine takes float16 if its wrapper for mixed precision names no type.
    default = "float16" if wrapper.get("type") == "AmpOptimWrapper" else None
    return DTYPES.get(str(wrapper.get("dtype") or default))


def usable(dtype: torch.dtype | None, device: str) -> torch.dtype | None:
    """Return the type if the device can compute in it, else None, which is float32.

    A CPU always computes in float32.

    Args:
        dtype: The type that a recipe states.
        device: The torch device.
    """
    if device == "cpu":
        return None
    lacks_it = not torch.cuda.is_bf16_supported(including_emulation=False)
    return None if dtype == torch.bfloat16 and lacks_it else dtype


def lies_channels_last(dtype: torch.dtype | None, device: str) -> bool:
    """Whether weights should lie channels-last: always, except in float32 on a GPU.

    The measurements are in docs/evidence/layout.md.
    """
    return device == "cpu" or dtype is not None


def computing_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Open a `with` block in which products are computed in a type; None is that of the weights."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()
