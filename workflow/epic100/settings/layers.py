"""Read config files of YAML, one layer each, and merge them.

A command line imports this module, so it has nothing that takes long to import.
"""

import os
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from epic100.base.disk import read_text
from epic100.base.errors import EpicError, nearest_file
from epic100.base.shipped import ROOT

# The maximum number of values of a config. The largest of a sweep has a few hundred.
MAX_VALUES = 100_000


def read_layer(path: str | os.PathLike) -> dict[str, Any]:
    """Read one config file without checking its keys.

    Raises:
        EpicError: The file cannot be read, or is not YAML with keys.
    """
    if str(path).endswith(".py"):
        raise EpicError(f"{path}: expected YAML; an MMEngine config goes into `train: config:`")
    if os.path.isdir(path):
        raise EpicError(f"{path}: is a folder; expected a config file")
    try:
        layer = _Loader(read_text(path)).get_single_data()
    except RecursionError as error:
        raise EpicError(f"{path}: too deep for a config; expected YAML, key by key") from error
    except UnicodeDecodeError as error:
        raise EpicError(f"{path}: its text is not UTF-8; save it as UTF-8") from error
    except FileNotFoundError as error:
        raise EpicError(
            f"{path}: no such config file; expected YAML{nearest_file(path, ROOT)}"
        ) from error
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        message = f"{path}: not a readable config ({reason}); expected YAML"
        if "'\\t'" in reason:
            message += "; indent with spaces, not tabs"
        raise EpicError(message) from error
    if not isinstance(layer, dict):
        found = "no key in it" if layer is None else f"is a {type(layer).__name__}"
        raise EpicError(f"{path}: {found}; expected a config, key by key, or remove the file")
    _reject_endless(layer, path)
    return layer


class _Loader(yaml.SafeLoader):
    """A reader of YAML that rejects a key that is there twice, of which YAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make a dictionary, or raise."""
        names: set[str] = set()
        for name, _ in node.value:
            if name.value in names and name.value != "<<":
                line = name.start_mark.line + 1
                raise yaml.YAMLError(
                    f"line {line}: key {name.value!r} is there twice; join the two"
                )
            names.add(str(name.value))
        return super().construct_mapping(node, deep)


def _reject_endless(layer: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise EpicError if a config has too many values, by aliases within aliases of YAML."""
    values: list[Any] = [layer]
    for value in values:  # The loop also walks the values that it adds.
        if isinstance(value, dict | list):
            values += value.values() if isinstance(value, dict) else value
        if len(values) > MAX_VALUES:
            raise EpicError(f"{path}: its aliases make over {MAX_VALUES} values; expected a config")


def merge(config: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Replace values of a config by the values of another one, key by key in all sections."""
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            merge(config[name], value)
        else:
            config[name] = value
