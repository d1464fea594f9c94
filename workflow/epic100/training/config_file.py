"""Read an MMEngine config from its file, and change a copy of it."""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger

from epic100.base.errors import EpicError
from epic100.training.quiet_runner import quiet


def read_config(path: str | os.PathLike, variables: Mapping[str, str]) -> Config:
    """Read an MMEngine config and fill its `{{$NAME:default}}` from `variables`.

    Raises:
        EpicError: The file is missing or cannot be read; the error gives the cause in one line.
    """
    if not Path(path).is_file():
        raise EpicError(f"{path}: no such MMEngine config; see `train: config:`")
    quiet(MMLogger.get_current_instance())  # it logs each variable that it fills in
    try:
        with environment_with(variables):  # MMEngine reads variables only there
            return Config.fromfile(path)
    except EpicError:
        raise
    except Exception as error:  # a config is Python code: it can raise anything
        cause = root_cause(error)  # MMEngine wraps the original error
        reason = " ".join(str(cause).split())
        raise EpicError(
            f"{path}: this MMEngine config cannot be read ({type(cause).__name__}: {reason}); see "
            "`train: config:`, and `custom_imports` in the file itself"
        ) from error


def root_cause(error: BaseException) -> BaseException:
    """The error that an error was raised from, in the end."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error


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


@contextmanager
def environment_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within a `with` block and restore them after it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
