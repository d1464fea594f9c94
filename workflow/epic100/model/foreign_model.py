"""Builds the model of a foreign file from its config, and loads its weights.

`foreign_config` decides what may be built. This module limits memory and time: a short config can
ask for a layer of terabytes, or for a million layers. The size of the weights in the file shows how
large the model can be, so tensors are counted while the model is built.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from epic100.base.errors import EpicError
from epic100.model.foreign_config import Cleaned

log = logging.getLogger(__name__)

SPARE = 256 * 2**20  # bytes that a model may need besides its weights: attention masks, tables
TIMES = 4  # x the weights' bytes: tensors are created, filled and copied
SHOWN = 4  # names of weights per kind of fault in an error
MOST_OPERATIONS = 100_000  # MMAction2's largest backbone needs about 10,000


def build_foreign(
    cleaned: Cleaned, weights: Mapping[str, Tensor], where: str, file: str | os.PathLike
) -> nn.Module:
    """Build the model of a foreign config and load its weights, which must match exactly.

    Args:
        cleaned: The result of `clean_model`.
        weights: The weights by name.
        where: Name of the config in errors.
        file: The file of the weights.

    Raises:
        EpicError: The model cannot be built, or the weights do not match it.
    """
    from mmaction.registry import MODELS

    if cleaned.dropped:
        log.info("%s: left out of %s: %s", file, where, "; ".join(cleaned.dropped))
    try:
        built = _bounded(lambda: MODELS.build(cleaned.spec), weights)
    except Exception as error:  # constructors raise anything for wrong arguments
        raise EpicError(
            f"{where}: model cannot be built here ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); expected classes of MMAction2 1.2"
        ) from error
    if fault := _misfit(built, weights):
        raise EpicError(f"{file}: does not fit the model of {where}: {fault}")
    built.load_state_dict(dict(weights))
    return built


def _misfit(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Describe how `weights` do not match `model`, or return ""."""
    wanted = model.state_dict()
    faults = {
        "missing": sorted(set(wanted) - set(weights)),
        "not of the model": sorted(map(str, set(weights) - set(wanted))),
        "of another shape": [
            f"{name} {list(weights[name].shape)}, expected {list(value.shape)}"
            for name, value in wanted.items()
            if name in weights and weights[name].shape != value.shape
        ],
    }
    return "; ".join(
        f"{len(names)} weights are {what}: {', '.join(names[:SHOWN])}"
        f"{' ...' if len(names) > SHOWN else ''}"
        for what, names in faults.items()
        if names
    )


class TooLargeError(Exception):
    """A model is larger than its weights allow."""


def _bounded(build: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> nn.Module:
    """Call `build`. Raise TooLargeError if it needs far more memory than `weights`."""
    held = sum(value.numel() * value.element_size() for value in weights.values())
    with _Counted(held * TIMES + SPARE):
        return build()


class _Counted(TorchDispatchMode):
    """Checks each operation before it allocates memory."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self._most, self._left, self._operations = most, most, MOST_OPERATIONS

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._operations -= 1
        if _asked(args) * 4 > self._most or self._operations < 0:
            raise TooLargeError("its config asks for a model larger than its weights")
        made = func(*args, **(kwargs or {}))
        fresh = isinstance(made, Tensor) and func._schema.returns[0].alias_info is None
        if fresh:
            self._left -= made.numel() * made.element_size()
            if self._left < 0:
                raise TooLargeError("its config asks for a model larger than its weights")
        return made


def _asked(args: Sequence[Any]) -> int:
    """Return how many values an operation asks for: by a size, or by a number of steps."""
    sizes = [prod(a) for a in args if isinstance(a, list | tuple) and all(map(_whole, a))]
    if not any(isinstance(a, Tensor) for a in args):  # else it can be a dimension
        sizes += [a for a in args if _whole(a)]
    return max(map(abs, sizes), default=0)


def _whole(value: Any) -> bool:
    return type(value) is int
