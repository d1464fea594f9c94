"""`epic100 check`: check all inputs of a run and try its training, and report on one screen."""

import argparse
import contextlib
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.cli.typed import look_up
from epic100.inputs.archive import find_archive
from epic100.inputs.before_start import Asked, different, missing_packages, run_start_check
from epic100.inputs.lines import MISSING, NOTE, OK, WRONG, Line
from epic100.inputs.read import InputFiles, read_inputs
from epic100.settings import Settings, layered_settings, read_layer, set_words


def run(options: argparse.Namespace) -> int:
    """Print a line about every input, and whether the training works.

    Returns:
        1 if something stops a run, else 0.
    """
    profile = ["--profile", options.profile] if options.profile else []
    # The option -n lets `look_up` refuse a folder that does not exist, as before a dry run.
    typed = [*profile, "-n", "--directory", str(options.directory), "--config", *options.keys]
    words, keys = look_up([*typed, "--configfile", *map(str, options.configfile)])
    # The config files come last. A shipped one now has its path in the package.
    overlays = words[words.index("--configfile") + 1 :]
    config = layered_settings(overlays, options.directory, set_words(keys))
    # `words` begin with --profile and the path of the profile, if one is named.
    remote = bool(profile) and _is_remote(words[1])
    with contextlib.chdir(options.directory):
        files = InputFiles.of(config)
        lines = read_inputs(config, files, find_archive(config))
        for line in [Line(OK, "config", "is valid"), *lines]:
            print(f"{line.state:8}{line.topic:13}{line.words}", flush=True)
        if {WRONG, MISSING} & {line.state for line in lines}:
            return 1
        return _try_trainings(config, files, remote) if config.trains else 0


def _is_remote(profile: str) -> bool:
    """Whether a profile sends jobs to other machines."""
    path = Path(profile, "config.yaml")
    executor = read_layer(path).get("executor") if path.is_file() else None
    return executor not in (None, "local")


def _try_trainings(config: Settings, files: InputFiles, remote: bool) -> int:
    """Try each training that differs from the others, and print the screens.

    Returns:
        1 if a training would fail, else 0.
    """
    if files.made and not set(files.csvs) <= set(files.tables):
        print(f"{NOTE:8}{'train':13}is tried by the run, once the annotations are there")
        return 0
    if missing_packages():
        print(f"{NOTE:8}{'train':13}is tried by the training job, whose packages are not here")
        return 0
    asked_runs = [Asked.of(config, run, remote=remote) for run in config.runs or [None]]
    for asked in different(asked_runs):
        try:
            if asked.fault:
                raise EpicError(asked.fault)
            print(asked.answer() or run_start_check(asked))
        except EpicError as error:
            print(error)
            return 1
    return 0
