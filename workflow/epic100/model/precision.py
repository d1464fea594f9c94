"""What a forward pass computes in, and how weights lie for it.

A recipe states the precision; a device that lacks it computes in float32.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(config: Mapping[str, Any]) -> torch.dtype | None:
    """What a training of this MMEngine config computes in; None is float32.

    Args:
        config: The config, or that of a model file.
    """
    wrapper = config.get("optim_wrapper") or {}
    # MMEngine takes float16 where its wrapper names no type.
    unnamed = "float16" if wrapper.get("type") == "AmpOptimWrapper" else None
    return DTYPES.get(str(wrapper.get("dtype") or unnamed))


def usable(dtype: torch.dtype | None, device: str) -> torch.dtype | None:
    """The same type if the device computes in it, else None: a CPU computes in float32.

    Args:
        dtype: The type of a recipe.
        device: The torch device.
    """
    if device == "cpu":
        return None
    lacks_it = not torch.cuda.is_bf16_supported(including_emulation=False)
    return None if dtype == torch.bfloat16 and lacks_it else dtype


def lies_channels_last(dtype: torch.dtype | None, device: str) -> bool:
    """Whether weights lie channels-last: but for float32 on a GPU (docs/evidence/layout.md)."""
    return device == "cpu" or dtype is not None


def computing_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """A block in which products are computed in this type; None: in that of the weights."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()
