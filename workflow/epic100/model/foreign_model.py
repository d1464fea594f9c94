"""The model of a file that another made: built of its config, with its weights in it.

What may be built is the matter of `foreign_config`. Here the model is kept from taking the machine:
a config of a few words can ask for a layer of terabytes, or for a million layers. The weights that
are in the file say how large it can honestly be, so tensors are counted as they are made.
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

SPARE = 256 * 2**20  # bytes that a model may make besides its weights: attention masks, tables
TIMES = 4  # of the weights' bytes: values are made, filled and copied
SHOWN = 4  # names of weights in an error
MOST_OPERATIONS = 100_000  # the largest backbone of MMAction2 takes some 10,000


def build_foreign(
    cleaned: Cleaned, weights: Mapping[str, Tensor], where: str, file: str | os.PathLike
) -> nn.Module:
    """Build the model of a foreign config and load its weights, all of them and no others.

    Args:
        cleaned: What `clean_model` gives.
        weights: By name.
        where: Names the config in errors.
        file: The file that the weights are from.

    Raises:
        EpicError: A model that cannot be built, or that these weights are not of.
    """
    from mmaction.registry import MODELS

    if cleaned.dropped:
        log.info("%s: left out of %s: %s", file, where, "; ".join(cleaned.dropped))
    try:
        built = _bounded(lambda: MODELS.build(cleaned.spec), weights)
    except Exception as error:  # whatever constructors raise for arguments that are none of theirs
        raise EpicError(
            f"{where}: model cannot be built here ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); expected classes of MMAction2 1.2"
        ) from error
    if fault := _misfit(built, weights):
        raise EpicError(f"{file}: does not fit the model of {where}: {fault}")
    built.load_state_dict(dict(weights))
    return built


def _misfit(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What of `weights` is not of `model`, in words, or ""."""
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
    """A model is larger than the weights that are to go into it."""


def _bounded(build: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> nn.Module:
    """Call `build`, and raise TooLargeError when it makes far more than `weights` hold."""
    held = sum(value.numel() * value.element_size() for value in weights.values())
    with _Counted(held * TIMES + SPARE):
        return build()


class _Counted(TorchDispatchMode):
    """Looks at each operation before it takes memory."""

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
    """Values that the arguments of an operation ask for: a size, or a number of steps."""
    sizes = [prod(a) for a in args if isinstance(a, list | tuple) and all(map(_whole, a))]
    if not any(isinstance(a, Tensor) for a in args):  # else a number is a dimension or an end
        sizes += [a for a in args if _whole(a)]
    return max(map(abs, sizes), default=0)


def _whole(value: Any) -> bool:
    return type(value) is int
