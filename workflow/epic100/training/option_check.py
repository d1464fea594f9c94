"""Find typos in `train: options:` before anything is built from them."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from epic100.base.errors import EpicError

# Read by MMEngine's Runner from the whole config, besides its own arguments.
MORE = {
    "activation_checkpointing", "auto_scale_lr", "compile", "efficient_conv_bn_eval",
    "find_unused_parameters", "model_wrapper_cfg", "sync_bn",
}  # fmt: skip
READ = MORE | set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}


def require_known_options(config: Config, options: Mapping[str, Any]) -> None:
    """Refuse options that nothing reads.

    MMEngine takes any key. A key that its Runner does not read changes nothing: a typo, or a
    variable of the config file (`batch_size`), which was used while the file was read.

    Args:
        config: The config before the options are applied.
        options: Values by dotted key.

    Raises:
        EpicError: The first part of a key is not read by MMEngine's Runner.
    """
    for key in options:
        first = key.partition(".")[0]
        if first in READ:
            continue
        if first in config:
            raise EpicError(
                f"config: `train: options:` sets {key}, which changes nothing: {first} is a "
                f"variable of {config.filename}, used up when that file was read; expected a key "
                f"of the result, such as {_example(config, first)}"
            )
        raise EpicError(
            f"config: `train: options:` sets {key}, which MMEngine does not know"
            f"{_meant(first, READ)}; expected a dotted key of the MMEngine config, such as "
            "optim_wrapper.optimizer.lr"
        )


def option_hints(config: Config, options: Iterable[str]) -> str:
    """Name the options that look like typos of another key beside them.

    Args:
        config: The config with the options applied.
        options: Dotted keys.

    Returns:
        "`train: options:` model.cls_head.dropout_rate (did you mean 'dropout_ratio'?)", or "".
    """
    found, values = [], config.to_dict()
    for key in options:
        *parents, last = key.split(".")
        node: Any = values
        for name in parents:
            node = node.get(name) if isinstance(node, Mapping) else None
        others = [name for name in node if name != last] if isinstance(node, Mapping) else []
        if meant := _meant(last, others):
            found.append(f"{key} ({meant[2:]})")
    return f"`train: options:` {', '.join(found)}" if found else ""


def last_part(key: str) -> str:
    """The last part of a dotted key."""
    return key.rpartition(".")[2]


def _example(config: Config, name: str) -> str:
    """The dotted key in a data loader, model or loop that has this name, or a usual one."""
    for part in ("train_dataloader", "train_cfg", "model"):
        if name in config.get(part, {}):
            return f"{part}.{name}"
    return "optim_wrapper.optimizer.lr"


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
