"""Read an MMEngine config from its file, change a copy of it, and find typos in options for it."""

import copy
import difflib
import inspect
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import mmaction.registry
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry
from mmengine.runner import Runner

from epic100.base.errors import EpicError

# What MMEngine's Runner reads from a config: its own arguments, and these of the whole config.
READ = {
    "activation_checkpointing", "auto_scale_lr", "compile", "efficient_conv_bn_eval",
    "find_unused_parameters", "model_wrapper_cfg", "sync_bn",
} | set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}  # fmt: skip
BUILDERS = {"type", "constructor", "paramwise_cfg", "priority"}  # taken before a class is built
ALIKE = 0.85  # two names this alike are one with a typo, where any name would be possible


def read_config(path: str | os.PathLike) -> Config:
    """Read an MMEngine config. It is Python code, and is run.

    Raises:
        EpicError: The file is missing or cannot be read; the error gives the cause in one line.
    """
    if not Path(path).is_file():
        raise EpicError(f"{path}: no such MMEngine config; see `train: config:`")
    try:
        return Config.fromfile(path)
    except Exception as error:  # it can raise anything
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:  # MMEngine wraps the original error
            cause = deeper
        reason = " ".join(str(cause).split())
        raise EpicError(
            f"{path}: this MMEngine config cannot be read ({type(cause).__name__}: {reason}); see "
            "`train: config:`, and `custom_imports` in the file itself"
        ) from error


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Copy a config and replace the value of each dotted key as a whole."""
    copied = copy.deepcopy(config)
    for key, value in changes.items():
        *parents, last = key.split(".")
        node: Any = copied
        for name in parents:
            if isinstance(node, (list, tuple)):
                node = node[int(name)]
            else:
                node = node.setdefault(name, ConfigDict())
        place = int(last) if isinstance(node, list) else last
        node[place] = ConfigDict(value) if isinstance(value, dict) else value
    return copied


def present(config: Config, *names: str) -> list[str]:
    """The names that the config sets to a value other than None or empty."""
    return [name for name in names if config.get(name)]


def custom_hooks(config: Config) -> list[ConfigDict]:
    """The hooks that a config adds to the default ones."""
    return list(config.get("custom_hooks") or [])


def tree_of(value: Any) -> Any:
    """A nested config with dicts in place of its lists, whose keys are the places."""
    if isinstance(value, (list, tuple)):
        value = {str(place): item for place, item in enumerate(value)}
    return {k: tree_of(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def items_of(
    tree: Mapping[str, Any], place: str = "", without: Collection[str] = ()
) -> Iterator[tuple[str, Any]]:
    """The dotted keys of a result of `tree_of` that hold a value, with it.

    Args:
        tree: The result of `tree_of`.
        place: What each key begins with.
        without: Names that are left out at any depth, with all that is below them.
    """
    for name, value in tree.items():
        if name in without:
            continue
        if isinstance(value, dict):
            yield from items_of(value, f"{place}{name}.", without)
        else:
            yield f"{place}{name}", value


def require_known_options(config: Config, options: Mapping[str, Any]) -> None:
    """Refuse options that nothing reads, since MMEngine takes any key.

    A key is read if the config has it, or if the class that the `type` beside it names takes it. A
    dict without a class takes any key but one that looks like a typo of a key beside it. At the top
    stand the keys that MMEngine's Runner reads; the others there are variables of the config's
    file, which were used up when it was read.

    Args:
        config: The config before the options are applied.
        options: Values by dotted key.

    Raises:
        EpicError: Nothing reads a key. The error names the key that was probably meant.
    """
    tree = tree_of(config.to_dict())
    for key in options:
        node, place, known, closed = tree, "", READ, True
        for name in key.split("."):
            if name not in known and not name.startswith("_"):
                meant = difflib.get_close_matches(name, known, 1, 0.6 if closed else ALIKE)
                if closed or meant:
                    raise EpicError(_unread(key, place + name, tree, [place + n for n in meant]))
                break
            node = node.get(name)
            place += f"{name}."
            if not isinstance(node, dict):
                break
            kind = _class_of(options.get(f"{place}type", node.get("type")))
            known = {*node, *(BUILDERS | _arguments(kind) if kind else ())}
            closed = kind is not None or bool(known) and all(map(str.isdigit, known))


def _unread(key: str, wrong: str, tree: dict[str, Any], meant: list[str]) -> str:
    """The error about an option, of which the part up to `wrong` is read by nothing."""
    same = f".{wrong.rpartition('.')[2]}"
    meant += [k for k, _ in items_of(tree) if k.endswith(same) and k.partition(".")[0] in READ]
    hint = f"; did you mean {meant[0]}?" if meant else ""
    return (
        f"config: `train: options:` sets {key}, but nothing reads {wrong}{hint}; expected a dotted "
        "key of the MMEngine config, such as optim_wrapper.optimizer.lr"
    )


def _arguments(kind: Any) -> set[str]:
    """The names that a class and its bases, or a function, take."""
    calls = [vars(base).get("__init__") for base in getattr(kind, "__mro__", ())] or [kind]
    return {name for call in calls if call for name in inspect.signature(call).parameters}


def _class_of(kind: Any) -> Any:
    """The class or function that is registered with this name, or None."""
    for registry in vars(mmaction.registry).values():
        while isinstance(registry, Registry):
            if kind in registry.module_dict:
                return registry.module_dict[kind]
            registry = registry.parent
    return None
