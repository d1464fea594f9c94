"""Read config files, merged one over the other, as settings."""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.base.names import nearest_file
from epic100.base.shipped import ROOT, existing_path
from epic100.settings.config import Settings
from epic100.settings.section import checked

BASE_CONFIG = "config/config.yaml"
# The command line puts its words KEY=VALUE into this key of Snakemake's config. No file has it.
SET = "set"
# The maximum number of values of a config. The largest of a sweep has a few hundred.
MOST_VALUES = 100_000


def read_settings(config: Mapping[str, Any], files: Sequence[str | os.PathLike] = ()) -> Settings:
    """Check a config and fill in the defaults.

    Args:
        config: The config, as Snakemake has merged it. The words KEY=VALUE of a command line, which
            its key `set` holds as `set_words` joins them, are merged over it.
        files: The files that it was read from, later ones over earlier ones, for the messages.

    Raises:
        EpicError: Keys or values are wrong. The message has a line for each.
    """
    # Each key that a file has, with the beginning of messages about it: `FILE:LINE: `.
    origins = {
        key_path: f"{file}:{line}: "
        for file in files
        for key_path, line in lines_of_keys(file).items()
    }
    merged = copy.deepcopy(dict(config))
    # `set_words` joins the typed words as pairs: the names down to a key, and its value.
    for key_path, value in json.loads(unquote(merged.pop(SET, "[]"))):
        # The typed value is in no file, so a message about it names none.
        origins[tuple(key_path)] = ""
        for depth in range(1, len(key_path)):
            # A section above the typed key may be in no file either.
            origins.setdefault(tuple(key_path[:depth]), "")
        for name in reversed(key_path):
            value = {name: value}
        _merge(merged, value)
    return checked(Settings, merged, "config: ", origins)


def layered_settings(
    overlays: Sequence[str | os.PathLike], directory: str | os.PathLike = "", words: str = "[]"
) -> Settings:
    """Read the config that Snakemake would use in `directory` with these `--configfile`s.

    The base is `config/config.yaml` of the folder, or the shipped one if the folder has none. The
    overlays are merged into it key by key, in order.

    Args:
        overlays: Paths of further config files, of the current folder or shipped.
        directory: The working folder of the run.
        words: Words KEY=VALUE over all files, as `set_words` joins them.

    Raises:
        EpicError: A file is missing or is not YAML, or a key or value in it is wrong.
    """
    base = Path(directory) / BASE_CONFIG
    files = [
        base if base.is_file() else ROOT / BASE_CONFIG,
        *map(Path, map(existing_path, overlays)),
    ]
    config: dict[str, Any] = {}
    for path in files:
        _merge(config, read_layer(path))
    return read_settings(config | {SET: words}, files)


def read_layer(path: str | os.PathLike) -> dict[str, Any]:
    """Read one config file without checking its keys.

    Raises:
        EpicError: The file cannot be read, or is not YAML with keys.
    """
    path = Path(path)
    if path.suffix == ".py":
        raise EpicError(f"{path}: expected YAML; an MMEngine config goes into `train: config:`")
    try:
        layer = yaml.safe_load(read_text(path))
    except EpicError:
        raise
    except RecursionError as error:
        raise EpicError(f"{path}: too deep for a config; expected YAML, key by key") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        hint = "" if path.exists() else nearest_file(path, ROOT)
        if "'\\t'" in reason:
            hint = "; indent with spaces, not tabs"
        raise EpicError(f"{path}: not a readable config ({reason}); expected YAML{hint}") from error
    if layer is None:
        raise EpicError(f"{path}: no key in it; expected a config, key by key, or remove the file")
    if not isinstance(layer, dict):
        raise EpicError(f"{path}: is a {type(layer).__name__}; expected a config, key by key")
    _require_size_of_config(layer, path)
    return layer


def _require_size_of_config(layer: dict[str, Any], path: Path) -> None:
    """Raise EpicError if a config has too many values, by aliases within aliases of YAML."""
    values: list[Any] = [layer]
    count = 0
    while values:
        value = values.pop()
        count += 1
        if count > MOST_VALUES:
            raise EpicError(
                f"{path}: its aliases make over {MOST_VALUES} values; expected a config"
            )
        if isinstance(value, dict | list):
            values += value.values() if isinstance(value, dict) else value


def _merge(config: dict[str, Any], over: dict[str, Any]) -> None:
    """Replace values of a config by those of another one, key by key in all sections."""
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            _merge(config[name], value)
        else:
            config[name] = value


def lines_of_keys(file: str | os.PathLike) -> dict[tuple[str, ...], int]:
    """Return the line of each key of a YAML file, by the names from the top level down to it.

    Raises:
        EpicError: The file has a key twice. YAML would ignore the first one without a message.
    """
    lines: dict[tuple[str, ...], int] = {}
    root = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    nodes: list[tuple[tuple[str, ...], yaml.Node | None]] = [((), root)]
    for above, node in nodes:  # The loop also walks the nodes that it adds.
        for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
            key_path = (*above, name.value)
            line = name.start_mark.line + 1
            if key_path in lines:
                raise EpicError(
                    f"{file}:{line}: key {name.value!r} is there already, in line "
                    f"{lines[key_path]}; expected it once: join the two"
                )
            lines[key_path] = line
            nodes.append((key_path, value))
    return lines
