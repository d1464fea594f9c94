"""`epic100 demo`, `run` and `test`: run Snakemake with this Python on the workflow's Snakefile."""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from epic100.base.disk import reading
from epic100.base.errors import EpicError, did_you_mean, nearest_file
from epic100.base.shipped import ROOT, existing_path, reject_untrusted_config
from epic100.settings.layers import merge, read_layer

# A word NAME=VALUE is a key of the config if the name has a dot, as train.epochs. No option of
# Snakemake has one, and the options that take NAME=VALUE (--set-threads train=4) have none there
# either.
KEY = re.compile(r"[A-Za-z_]\w*(\.[\w-]+)+=|run=|[a-z]+={", re.ASCII)
SHIPPED = ("config/", "profiles/")  # Files of these folders may be named as in a clone.


def run(given: argparse.Namespace) -> int:
    """Run the workflow."""
    return run_snakemake(given.rest)


def run_demo(given: argparse.Namespace) -> int:
    """Run the workflow on the mini kitchen."""
    demo = ["--configfile", str(ROOT / "config/demo.yaml"), "--directory", given.directory]
    return run_snakemake([*demo, *given.rest])


def run_test(given: argparse.Namespace) -> int:
    """Score a finished model on the validation split."""
    if not given.model.is_file():
        no_file = f"no such file{nearest_file(given.model)}"
        defect = "is a folder" if given.model.is_dir() else no_file
        raise EpicError(f"{given.model}: {defect}; expected a model, as results/model.pth")
    with reading(given.model) as file:
        head = file.read(2**16)
    # The keys of a submission and the format of predictions are in the first kilobytes of a file.
    is_scores = given.model.suffix in (".zip", ".pkl")
    if is_scores or b"verb_output" in head or b"epic100 predictions" in head:
        raise EpicError(
            f"{given.model}: holds scores, and is no model; for their metrics: "
            f"epic100 score {given.model}"
        )
    name = given.name or given.model.stem
    return run_snakemake(
        [f"results/runs/{name}/metrics.json", f"results/runs/{name}/summary.txt", *given.rest],
        {"run": name, "predict": {"model": str(given.model.resolve())}},
    )


def run_snakemake(arguments: Sequence[str], config: Mapping[str, Any] | None = None) -> int:
    """Replace this process by Snakemake, so that signals and exit code are Snakemake's.

    Raises:
        EpicError: See `snakemake_command`.
    """
    command = snakemake_command(arguments, config)
    sys.stdout.flush()
    os.execv(command[0], command)


def snakemake_command(
    arguments: Sequence[str], config: Mapping[str, Any] | None = None
) -> list[str]:
    """Build the command line of Snakemake with these arguments.

    A config or profile that the current folder does not have (`profiles/vsc`,
    `config/trainval.yaml`) is replaced by the one in the package. The logger is `epic100` and the
    options are those of `profiles/default`, unless the arguments name others. Words KEY=VALUE
    become Snakemake's `--config`. Snakemake judges everything else.

    Args:
        arguments: As they were typed.
        config: More values of the config.

    Raises:
        EpicError: As in `separate_keys` and `reject_missing`.
    """
    words, typed = separate_keys(arguments)
    reject_missing(words)
    merge(typed, config or {})
    names = {word.partition("=")[0] for word in words}
    command = [sys.executable, "-P", "-m", "snakemake"]
    if names.isdisjoint({"--snakefile", "-s"}):
        command += ["--snakefile", str(ROOT / "Snakefile")]
    if "--workflow-profile" not in names:
        command += ["--workflow-profile", shipped("profiles/default")]
    command += words
    if typed:
        command += ["--config", *(f"{name}={_yaml(value)}" for name, value in typed.items())]
    if "--logger" not in names:
        command.append("--logger=epic100")
    return command


def separate_keys(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Separate words for Snakemake from keys of the config.

    Args:
        arguments: The words, as typed.

    Returns:
        The words for Snakemake, with shipped files by their paths; and the config that the words
        KEY=VALUE set, in which each single value is a text.

    Raises:
        EpicError: A word begins with a long dash, or a key with dashes.
    """
    words: list[str] = []
    config: dict[str, Any] = {}
    for word in arguments:
        if word.startswith(("–", "—")):  # Web pages and messengers turn hyphens into these dashes.
            dashes = "-" if len(word) == 2 else "--"
            raise EpicError(f"{word}: begins with a long dash; expected {dashes}{word[1:]}")
        if word.startswith("--") and KEY.match(f"{word[2:]}="):
            raise EpicError(f"{word}: a key of the config has no dashes; expected KEY=VALUE")
        if KEY.match(word):
            name, _, text = word.partition("=")
            value = _value_of(text)
            for part in reversed(name.split(".")):
                value = {part: value}
            merge(config, value)
        elif word not in ("--config", "-C"):
            words.append(shipped(word))
    return words, config


def _value_of(text: str) -> Any:
    """Read the value of a key as Snakemake does: as YAML in which each single value is a text."""
    try:
        value = yaml.BaseLoader(text).get_single_data()
    except yaml.YAMLError:
        return text
    # In YAML, ` #` begins a comment and `: ` parts a key from its value. Paths may have both.
    is_collection = text.startswith(("{", "[", "'", '"')) or not text
    return value if is_collection else text


def _yaml(value: Any) -> str:
    """Write a value of the top level so that Snakemake reads the same; it reads `1e3` as 1000."""
    return f"!!str {value}" if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def reject_missing(words: Sequence[str]) -> None:
    """Reject a config file that cannot be read, or a profile that is missing.

    Snakemake would end in a traceback, or read a device without an end.

    Args:
        words: The words for Snakemake.

    Raises:
        EpicError: As said.
    """
    for path in _behind(words, "--configfile", "--configfiles"):
        if not os.path.exists(path) and not path.endswith((".yaml", ".yml", ".json")):
            raise EpicError(
                f"{path}: no config file, but --configfile takes every word behind it; put targets "
                "before the options"
            )
        read_layer(path)
    for path in _behind(words, "--profile"):
        # Snakemake finds a profile of the user by its name alone.
        if os.sep in path and not os.path.exists(path):
            names = [folder.name for folder in (ROOT / "profiles").iterdir() if folder.is_dir()]
            hint = did_you_mean(Path(path).name, names, "profiles/{}")
            raise EpicError(f"--profile {path}: no such profile{hint}; expected its folder")


def _behind(words: Sequence[str], *options: str) -> list[str]:
    """Return the words behind options, up to the next one: `--profile a` and `--profile=a`."""
    behind = []
    option = ""
    for word in words:
        if word.startswith("-"):
            option, _, word = word.partition("=")
        if option in options and word:
            behind.append(word)
    return behind


def shipped(argument: str) -> str:
    """Replace a path like config/demo.yaml by that of the package, if this folder has no such file.

    Args:
        argument: A word of the command line, such as `--configfile=config/demo.yaml`.

    Raises:
        EpicError: This folder has the file, but it belongs to another user, whose config could make
            this run do anything.
    """
    option, equals, value = argument.rpartition("=")
    if not value.startswith(SHIPPED) or (equals and not option.startswith("-")):
        return argument
    path = existing_path(value)
    # A file of this folder replaces the shipped one. In a clone the two are the same file.
    if path == value:
        reject_untrusted_config(value, ROOT)
    return option + equals + path
