"""Read and check a config: of Snakemake, or from its files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT
from epic100.settings.config import Settings
from epic100.settings.mistakes import place_in_files, without, words_of
from epic100.settings.section import Section

DEFAULT = "config/config.yaml"
Kind = TypeVar("Kind", bound=Section)


def read_settings(config: Mapping[str, Any], files: Sequence[str | os.PathLike] = ()) -> Settings:
    """Check a config and fill in the defaults.

    Args:
        config: The config, as Snakemake has merged it.
        files: The files that it was read from, later ones over earlier ones, for the messages.

    Raises:
        EpicError: Something is wrong. The message names every key at once.
    """
    return checked(Settings, config, files, "config: ")


def checked(
    kind: type[Kind],
    config: Mapping[str, Any],
    files: Sequence[str | os.PathLike] = (),
    prefix: str = "",
) -> Kind:
    """Make a section of its keys, as `read_settings` does of the whole config.

    Args:
        kind: The section.
        config: Its keys and values.
        files: As for `read_settings`.
        prefix: Beginning of each line of an error.
    """
    try:
        return kind.model_validate(config)
    except ValidationError as error:
        errors = error.errors()
    try:  # what is right may contradict itself
        kind.model_validate(without(config, [error["loc"] for error in errors if error["loc"]]))
    except ValidationError as error:
        errors += [one for one in error.errors() if one not in errors]
    lines = [
        f"{prefix}{place_in_files(error['loc'], files)}{line}"
        for error in errors
        for line in words_of(error, kind).split("\n")
    ]
    raise EpicError("\n".join(dict.fromkeys(lines)))


def layered_settings(
    overlays: Sequence[str | os.PathLike], directory: str | os.PathLike = ""
) -> Settings:
    """Read the config that Snakemake would use in `directory` with these `--configfile`s.

    The base is `config/config.yaml` of the folder, or the shipped one if the folder has none. The
    overlays are merged into it key by key, in order.

    Args:
        overlays: Paths of further config files.
        directory: The working folder of the run.

    Raises:
        EpicError: A file is missing or is not YAML, or something in it is wrong.
    """
    own = Path(directory) / DEFAULT
    files = [own if own.is_file() else ROOT / DEFAULT, *map(Path, overlays)]
    config: dict[str, Any] = {}
    for path in files:
        _merge(config, read_layer(path))
    return read_settings(config, files)


def read_layer(path: str | os.PathLike) -> dict[str, Any]:
    """Read one config file without checking its keys.

    Raises:
        EpicError: The file cannot be read, or is not YAML with keys.
    """
    path = Path(path)
    try:
        layer = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        tab = "; indent with spaces, not tabs" if "'\\t'" in reason else ""
        raise EpicError(f"{path}: not a readable config ({reason}); expected YAML{tab}") from error
    if layer is None:
        raise EpicError(f"{path}: no key in it; expected a config, key by key, or remove the file")
    if not isinstance(layer, dict):
        raise EpicError(f"{path}: is a {type(layer).__name__}; expected a config, key by key")
    return layer


def _merge(config: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        else:
            config[key] = value
