"""Write results/run.json: the config files, settings and inputs of the results, for their readers.

Snakemake decides what runs again by its own records, which are in `.snakemake`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.base.atomic import write_text
from epic100.base.shipped import own_version
from epic100.cli.inputs import InputFiles
from epic100.settings.config import Settings

NAME = "run.json"


def record_of(
    config: Settings,
    configfiles: Sequence[str | os.PathLike],
    files: InputFiles,
    folder: str | os.PathLike,
) -> dict[str, Any]:
    """Return the content of run.json.

    Args:
        config: The config of the run.
        configfiles: The files that the call names, over config/config.yaml.
        files: The input files that the config names.
        folder: The folder of the files that ship with the workflow.

    Returns:
        `workflow`, the version; `configfiles`; `settings`, those that differ from the default of
        the version that introduced the key, by section and key; `inputs`, the digest of each file
        by its path.
    """
    return {
        "workflow": own_version(),
        "configfiles": [short_path(path, folder) for path in configfiles],
        "settings": config.stored(),
        "inputs": {path: files.digests[key] for key, path in files.tables.items()},
    }


def write_record(home: str, record: Mapping[str, Any]) -> None:
    """Write run.json into the folder of the results."""
    write_text(f"{home}/{NAME}", json.dumps(record, indent=1, sort_keys=True) + "\n")


def short_path(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """Shorten the path of a config file: relative to `folder` or to the working folder."""
    for above in (folder, os.getcwd()):
        if Path(path).resolve().is_relative_to(Path(above).resolve()):
            return Path(path).resolve().relative_to(Path(above).resolve()).as_posix()
    return str(path)
