"""`epic100 check`: check all inputs of a run and try its training, and report on one screen."""

import argparse
import contextlib
import os
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT, existing_path, reject_untrusted_config
from epic100.cli.input_videos import MISSING, NOTE, OK, WRONG, Line, find_archive
from epic100.cli.inputs import InputFiles, read_inputs
from epic100.cli.start import request_of, try_training
from epic100.cli.where import where_am_i
from epic100.cli.workflow import reject_missing, separate_keys, shipped
from epic100.data.start_weights import check_weights, start_weights
from epic100.settings.config import BASE_CONFIG, Settings, layered_settings
from epic100.settings.layers import read_layer


def run(options: argparse.Namespace) -> int:
    """Print a line about every input, and try each training of the config.

    Returns:
        1 if something stops a run, else 0.
    """
    config = _read_config(options)
    remote = bool(options.profile) and _is_remote(shipped(options.profile))
    # Words KEY=VALUE behind `--configfile` are no files.
    overlays = [path.resolve() for path in options.configfile if "=" not in str(path)]
    with contextlib.chdir(options.directory):
        lines = [Line(OK, "config", "is valid"), *where_am_i(config, overlays)]
        lines += [Line(NOTE, "config", doubt) for doubt in config.doubts]
        lines += read_inputs(config, InputFiles.of(config), find_archive(config))
        for line in lines:
            print(f"{line.state:8}{line.topic:13}{line.words}", flush=True)
        if any(line.state in (WRONG, MISSING) for line in lines):
            return 1
        return _try_trainings(config, remote) if config.trains else 0


def _read_config(options: argparse.Namespace) -> Settings:
    """Read the config as a run with the same words would read it.

    Raises:
        EpicError: A word is wrong, or a key or value of the config; or another user made it.
    """
    # In `--configfile a.yaml train.epochs=3`, argparse has taken both words for files.
    overlays, typed = separate_keys([*map(str, options.configfile), *options.keys])
    reject_missing(["--configfile", *overlays])
    if not os.path.isdir(options.directory):
        raise EpicError(
            f"--directory {options.directory}: no such folder; expected that of the run"
        )
    with contextlib.chdir(options.directory):
        reject_untrusted_config(BASE_CONFIG, ROOT)
    return layered_settings(overlays, options.directory, typed)


def _is_remote(profile: str) -> bool:
    """Whether a profile sends jobs to other machines."""
    path = Path(profile, "config.yaml")
    executor = read_layer(path).get("executor") if path.is_file() else None
    return executor not in (None, "local")


def _try_trainings(config: Settings, remote: bool) -> int:
    """Make the trial of each training that differs from the others, and print how they ended.

    Args:
        config: The config of the run.
        remote: Whether the jobs run on other machines, which may have other GPUs.

    Returns:
        1 if a training would fail, else 0.
    """
    try:
        passed = []
        for run in config.runs or [None]:
            section = config.of_run(run).train
            weights = start_weights(section, existing_path(section.config))
            if weights and not weights.needs_download:
                check_weights(weights)
            # A trial that could not be made has said so, and is no failure.
            passed.append(try_training(request_of(config, run, remote=remote), print))
        if all(passed):
            print(f"{OK:8}{'train':13}works, in a trial with these settings")
    except EpicError as error:
        print(error)
        return 1
    return 0
