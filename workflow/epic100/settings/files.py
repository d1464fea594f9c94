"""Read config files, merged one over the other, as settings."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.base.shipped import ROOT, existing_path
from epic100.settings.config import Settings
from epic100.settings.layers import merge, read_layer
from epic100.settings.section import checked_section

BASE_CONFIG = "config/config.yaml"


def read_settings(config: Mapping[str, Any], files: Sequence[str | os.PathLike] = ()) -> Settings:
    """Check a config and fill in the defaults.

    Args:
        config: The config, as Snakemake has merged it.
        files: The files that it was read from, which are checked first.

    Raises:
        EpicError: Keys or values are wrong. The message has a line for each.
    """
    for file in files:
        read_layer(file)
    return checked_section(Settings, config, "config: ")


def layered_settings(
    overlays: Sequence[str | os.PathLike],
    directory: str | os.PathLike = "",
    typed: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the config that Snakemake would use in `directory` with these `--configfile`s.

    The base is `config/config.yaml` of the folder, or the shipped one if the folder has none. The
    overlays are merged into it key by key, in order.

    Args:
        overlays: Paths of further config files, of the current folder or shipped.
        directory: The working folder of the run.
        typed: Keys of the command line, which go over all files.

    Raises:
        EpicError: A file is missing or is not YAML, or a key or value in it is wrong.
    """
    base = Path(directory) / BASE_CONFIG
    first = base if base.is_file() else ROOT / BASE_CONFIG
    files = [str(first), *map(existing_path, overlays)]
    config: dict[str, Any] = {}
    for layer in [*map(read_layer, files), copy.deepcopy(typed or {})]:
        merge(config, layer)
    return checked_section(Settings, config, "config: ")
