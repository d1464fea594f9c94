"""Say whether a call is made in the folder that is meant, before anything else about its inputs."""

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from epic100.base.disk import read_json
from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT
from epic100.cli.input_line import MISSING, NOTE, WRONG, Line
from epic100.cli.run_record import NAME, short_path
from epic100.settings.config import BASE_CONFIG, Settings, layered_settings

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
        if place.name == "results" and ((place / NAME).exists() or (place / "logs").is_dir()):
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
    home = "results" if config.runs else config.home
    made_with = _recorded_config_files(home)
    given = [short_path(path, folder) for path in configfiles]
    if made_with not in (None, given):
        yield Line(
            NOTE,
            "config",
            f"{home}/ was made with {_option(made_with)}, this call has {_option(given)}: is it "
            "the config that you mean?",
        )
    if made_with is not None and not os.path.isdir(METADATA):
        yield Line(
            NOTE,
            "results",
            f"{METADATA} is not here, so Snakemake cannot tell what in {home}/ is out of date: "
            f"remove what may be from {home}/, or make all again with -F",
        )


def reject_other_folder(options: argparse.Namespace) -> list[str]:
    """Stop a command that reads the files of a project outside one.

    Args:
        options: The options of the command, with `directory` and `configfile`.

    Returns:
        What is to be printed before the command runs.

    Raises:
        EpicError: The folder is none of a project.
    """
    config = layered_settings(options.configfile, options.directory)
    overlays = [path.resolve() for path in options.configfile]
    with contextlib.chdir(options.directory):
        lines = list(where_am_i(config, overlays))
    if wrong := [line.words for line in lines if line.state != NOTE]:
        raise EpicError("\n".join(wrong))
    return [line.words for line in lines]


def _recorded_config_files(home: str) -> list[str] | None:
    """Read the config files of the run that made the results; None without a record of one."""
    try:
        made_with = read_json(f"{home}/{NAME}")["configfiles"]
        return [str(path) for path in made_with]
    except (EpicError, OSError, UnicodeDecodeError, TypeError, KeyError):
        return None


def _option(configfiles: Sequence[str] | None) -> str:
    """Write the option that names config files: `--configfile a.yaml b.yaml`."""
    return f"--configfile {' '.join(configfiles)}" if configfiles else "no --configfile"
