"""The precision of a forward pass, and the memory layout of weights that suits it.

A recipe states the precision. A device that does not support it computes in float32.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(config: Mapping[str, Any]) -> torch.dtype | None:
    """Read from a training's MMEngine config which type it computes in; None is float32.

    Args:
        config: The config, of a recipe or of a model file.
    """
    wrapper = config.get("optim_wrapper") or {}
    # MMEngine takes float16 if its wrapper for mixed precision names no type.
    default = "float16" if wrapper.get("type") == "AmpOptimWrapper" else None
    return DTYPES.get(str(wrapper.get("dtype") or default))


def usable(dtype: torch.dtype | None, device: str) -> torch.dtype | None:
    """Return the type if the device supports it, else None, which is float32.

    Every GPU supports float16, so only bfloat16 may be lacking. A CPU always computes in float32
    here.

    Args:
        dtype: The type that a recipe states.
        device: The torch device.
    """
    if device == "cpu":
        return None
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return None if dtype == torch.bfloat16 and not has_bfloat16 else dtype


def lies_channels_last(dtype: torch.dtype | None, device: str) -> bool:
    """Whether channels-last weights are faster: always, except in float32 on a GPU.

    The measurements are in docs/evidence/gpu.md.
    """
    return device == "cpu" or dtype is not None


def computing_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Start autocast to a type, for a `with` block; None changes nothing."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()
