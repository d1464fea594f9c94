"""results/run.json: with which config files, settings and inputs the results there were made.

Snakemake knows it too, but only in `.snakemake`, which is not copied along with results.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.shipped import own_version
from epic100.inputs.read import InputFiles
from epic100.settings import Settings

NAME = "run.json"
SNAKEMAKES = ".snakemake/metadata"
# A sentence names so many settings at most.
SHOWN = 5


def record_of(
    config: Settings,
    configfiles: Sequence[str | os.PathLike],
    files: InputFiles,
    folder: str | os.PathLike,
) -> dict[str, Any]:
    """What a run is.

    Args:
        config: The config of the run.
        configfiles: The files that the call names, over config/config.yaml.
        files: The input files that the config names.
        folder: Where shipped files are.

    Returns:
        `workflow`, the version; `configfiles`; `settings`, those that are not as when they were
        introduced, by section and key; `inputs`, the digest of each file by its path.
    """
    return {
        "workflow": own_version(),
        "configfiles": [_name(path, folder) for path in configfiles],
        "settings": config.stored(),
        "inputs": {path: files.digests[key] for key, path in files.tables.items()},
    }


def write_record(home: str, record: Mapping[str, Any]) -> None:
    """Write the record of a run into the folder of its results."""
    write_text(f"{home}/{NAME}", json.dumps(record, indent=1, sort_keys=True) + "\n")


def changes_since(home: str, record: Mapping[str, Any]) -> Iterator[str]:
    """Say in what a call differs from the one that made the results which are there.

    Args:
        home: The folder of the results.
        record: The record of this call.
    """
    path = Path(home, NAME)
    if not path.is_file():
        return
    before = read_json(path)
    if before["configfiles"] != record["configfiles"]:
        yield (
            f"{home}/ was made with {_call(before['configfiles'])}, this call has "
            f"{_call(record['configfiles'])}: is it the config that you mean?"
        )
    old, new = dict(_flat(before["settings"])), dict(_flat(record["settings"]))
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    if changed:
        shown = ", ".join(
            f"{key} {_value(old, key)} -> {_value(new, key)}" for key in changed[:SHOWN]
        )
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        yield f"since the last run into {home}/: {shown}{more}"
        if not os.path.isdir(SNAKEMAKES):
            yield (
                f"{SNAKEMAKES} is not here, so Snakemake cannot tell what these changes put out of "
                f"date: remove it from {home}/, or make all again with -F"
            )


def _name(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """A config file as it would be typed: from the workflow's folder or the working folder on."""
    for above in (folder, os.getcwd()):
        if Path(path).resolve().is_relative_to(Path(above).resolve()):
            return Path(path).resolve().relative_to(Path(above).resolve()).as_posix()
    return str(path)


def _call(configfiles: Sequence[str]) -> str:
    return f"--configfile {' '.join(configfiles)}" if configfiles else "no --configfile"


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value and above.count(".") < 1:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _value(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "(default)"
