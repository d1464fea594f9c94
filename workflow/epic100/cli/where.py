"""The working folder: whether it is the one that is meant, and how its results were made.

results/run.json has the config files, settings and inputs of the results, for their readers.
Snakemake decides what runs again by its own records, which are in `.snakemake`.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT, own_version
from epic100.cli.input_videos import MISSING, NOTE, WRONG, Line
from epic100.cli.inputs import InputFiles
from epic100.settings.config import BASE_CONFIG, Settings

RECORD = "run.json"
# Snakemake's own records of how each result was made.
METADATA = ".snakemake/metadata"


def where_am_i(
    config: Settings,
    configfiles: Sequence[str | os.PathLike],
    folder: str | os.PathLike = ROOT,
) -> Iterator[Line]:
    """Report a working folder that is none of a project, or one of other results.

    Args:
        config: The config of the call.
        configfiles: The config files that the call names.
        folder: The folder of the files that ship with the workflow.

    Yields:
        A line that stops every call (`WRONG`), one that stops what reads inputs (`MISSING`), or
        one to think about (`NOTE`).
    """
    here = Path.cwd()
    for place in (here, *here.parents):
        if place.name == "results" and ((place / RECORD).exists() or (place / "logs").is_dir()):
            yield Line(WRONG, "folder", f"{here}: is inside results/; first: cd {place.parent}")
            return
    annotations = config.annotations
    is_made = config.minikitchen or annotations.download
    places = [BASE_CONFIG, annotations.train, annotations.val, config.videos.root, "results"]
    if not (is_made or configfiles or any(map(os.path.lexists, places))):
        yield Line(
            MISSING,
            "folder",
            f"{here}: no folder of a project: it has no {', '.join(places)}; cd to yours, or name "
            "it with --directory, or your config with --configfile",
        )

    # The config files of the run that made the results.
    home = _home(config)
    try:
        made_with = [str(path) for path in read_json(f"{home}/{RECORD}")["configfiles"]]
    except (ValueError, OSError, TypeError, KeyError):  # There is no record, or it is damaged.
        return
    given = [short_path(path, folder) for path in configfiles]
    if made_with != given:
        yield Line(
            NOTE,
            "config",
            f"{home}/ was made with {_option(made_with)}, this call has {_option(given)}: is it "
            "the config that you mean?",
        )
    if not os.path.isdir(METADATA):
        yield Line(
            NOTE,
            "results",
            f"{METADATA} is not here, so Snakemake cannot tell what in {home}/ is out of date: "
            f"remove what may be from {home}/, or make all again with -F",
        )


def reject_other_folder(config: Settings, options: argparse.Namespace) -> None:
    """Stop a command that reads the files of a project outside one, and print doubts about it.

    Args:
        config: The config of the call.
        options: The options of the command, with `directory` and `configfile`.

    Raises:
        EpicError: The folder is none of a project.
    """
    overlays = [path.resolve() for path in options.configfile]
    with contextlib.chdir(options.directory):
        lines = list(where_am_i(config, overlays))
    if wrong := [line.words for line in lines if line.state != NOTE]:
        raise EpicError("\n".join(wrong))
    for line in lines:
        print(line.words, file=sys.stderr)


def write_record(
    config: Settings,
    configfiles: Sequence[str | os.PathLike],
    files: InputFiles,
    folder: str | os.PathLike,
) -> None:
    """Write run.json into the folder of the results.

    It has `workflow`, the version; `configfiles`; `settings`, those that differ from the default of
    the version that introduced the key, by section and key; `inputs`, the digest of each file by
    its path.

    Args:
        config: The config of the run.
        configfiles: The files that the call names, over config/config.yaml.
        files: The input files that the config names.
        folder: The folder of the files that ship with the workflow.
    """
    record = {
        "workflow": own_version(),
        "configfiles": [short_path(path, folder) for path in configfiles],
        "settings": config.stored(),
        "inputs": {path: files.digests[key] for key, path in files.tables.items()},
    }
    text = json.dumps(record, indent=1, sort_keys=True)
    write_text(f"{_home(config)}/{RECORD}", f"{text}\n")


def _home(config: Settings) -> str:
    """Return the folder of run.json: with a sweep it is that of all runs."""
    return "results" if config.runs else config.home


def short_path(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """Shorten the path of a config file: relative to `folder` or to the working folder."""
    for above in (folder, os.getcwd()):
        if Path(path).resolve().is_relative_to(Path(above).resolve()):
            return Path(path).resolve().relative_to(Path(above).resolve()).as_posix()
    return str(path)


def _option(configfiles: Sequence[str]) -> str:
    """Write the option that names config files: `--configfile a.yaml b.yaml`."""
    return f"--configfile {' '.join(configfiles)}" if configfiles else "no --configfile"
