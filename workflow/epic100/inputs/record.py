"""Write and compare results/run.json: the config files, settings and inputs of the results.

Snakemake records them too, but only in `.snakemake`, which is not copied along with results.
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
# Snakemake's own records of how each result was made.
METADATA = ".snakemake/metadata"
# A message names at most so many settings.
MAX_SHOWN = 5


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
        "configfiles": [_short_path(path, folder) for path in configfiles],
        "settings": config.stored(),
        "inputs": {path: files.digests[key] for key, path in files.tables.items()},
    }


def write_record(home: str, record: Mapping[str, Any]) -> None:
    """Write run.json into the folder of the results."""
    write_text(f"{home}/{NAME}", json.dumps(record, indent=1, sort_keys=True) + "\n")


def changes_since(home: str, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between this call and the one that made the existing results.

    Each is a line for the user; there is none if no record of an earlier call exists.

    Args:
        home: The folder of the results.
        record: The content of run.json for this call, from `record_of`.
    """
    path = Path(home, NAME)
    if not path.is_file():
        return
    before = read_json(path)
    if not _is_record(before):
        yield f"{path}: no record of a run; what is made goes on as without one"
        return
    if before["configfiles"] != record["configfiles"]:
        yield (
            f"{home}/ was made with {_option(before['configfiles'])}, this call has "
            f"{_option(record['configfiles'])}: is it the config that you mean?"
        )
    old = dict(_by_dotted_key(before["settings"]))
    new = dict(_by_dotted_key(record["settings"]))
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    if changed:
        shown = ", ".join(
            f"{key} {_value(old, key)} -> {_value(new, key)}" for key in changed[:MAX_SHOWN]
        )
        more = f" and {len(changed) - MAX_SHOWN} more" if len(changed) > MAX_SHOWN else ""
        yield f"since the last run into {home}/: {shown}{more}"
        # The records are missing if the results were copied here without them.
        if not os.path.isdir(METADATA):
            yield (
                f"{METADATA} is not here, so Snakemake cannot tell what these changes put out of "
                f"date: remove it from {home}/, or make all again with -F"
            )


def _is_record(content: Any) -> bool:
    """Whether the content of a JSON file has what `changes_since` reads."""
    if not isinstance(content, dict):
        return False
    files, settings = content.get("configfiles"), content.get("settings")
    is_list_of_text = isinstance(files, list) and all(isinstance(file, str) for file in files)
    return is_list_of_text and isinstance(settings, dict)


def _short_path(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """Shorten the path of a config file: relative to `folder` or to the working folder."""
    for above in (folder, os.getcwd()):
        if Path(path).resolve().is_relative_to(Path(above).resolve()):
            return Path(path).resolve().relative_to(Path(above).resolve()).as_posix()
    return str(path)


def _option(configfiles: Sequence[str]) -> str:
    """Write the option that names config files: `--configfile a.yaml b.yaml`."""
    return f"--configfile {' '.join(configfiles)}" if configfiles else "no --configfile"


def _by_dotted_key(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (`train.epochs`, 3) for each key of a section. Deeper sections are values."""
    for name, value in settings.items():
        if isinstance(value, dict) and value and above.count(".") < 1:
            yield from _by_dotted_key(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _value(settings: Mapping[str, Any], key: str) -> str:
    """Write the value of a key as JSON, or `(default)` if run.json does not have the key."""
    return json.dumps(settings[key]) if key in settings else "(default)"
