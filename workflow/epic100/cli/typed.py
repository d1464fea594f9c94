"""Check the words behind `epic100 run` before Snakemake sees them.

A word is a key of the config, a target or an option of Snakemake. An unknown key or option is
refused with a similar one. Targets are checked in rules/targets.smk, where the rules are known.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.folders import refuse_foreign_config
from epic100.base.names import did_you_mean, nearest_file
from epic100.base.shipped import ROOT, existing_path
from epic100.settings import Settings, read_layer
from epic100.settings.section import names_of

# The values of these options of Snakemake look like KEY=VALUE, but set no key of the config.
OPTIONS_WITH_ASSIGNMENTS = {
    "--set-threads",
    "--set-resources",
    "--set-resource-scopes",
    "--resources",
    "--res",
    "--default-resources",
    "--default-res",
    "--consider-ancient",
}
# These options of Snakemake are typed often, so they are known here: the import of Snakemake's
# parser, which knows all options, takes a second.
COMMON_OPTIONS = {
    "-n",
    "-c",
    "-j",
    "-R",
    "-k",
    "-q",
    "-p",
    "--dry-run",
    "--cores",
    "--jobs",
    "--forcerun",
    "--keep-going",
    "--quiet",
    "--verbose",
    "--configfile",
    "--config",
    "--profile",
    "--logger",
    "--directory",
    "--workflow-profile",
    "--snakefile",
    "--unlock",
    *OPTIONS_WITH_ASSIGNMENTS,
}
# The options of a dry run, which plans jobs and makes nothing.
DRY = {"-n", "--dry-run", "--dryrun"}
KEY = re.compile(r"[A-Za-z_]\w*(\.[\w.-]+)?")
SHIPPED = ("config/", "profiles/")  # Files of these folders may be named as in a clone.


def separate_keys(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate words for Snakemake from keys of the config, and refuse unknown words.

    Args:
        arguments: The words, as typed.

    Returns:
        The words for Snakemake, with shipped files by their paths; and the words KEY=VALUE.

    Raises:
        EpicError: A word is an unknown option or key, or names a file that does not exist.
    """
    words: list[str] = []
    keys: list[str] = []
    # The last option before the word that is looked at; "" before the first one.
    option = ""
    for word in map(shipped, arguments):
        value = word
        if word.startswith(("–", "—")):  # Web pages and messengers turn hyphens into these dashes.
            dashes = "-" if len(word) == 2 else "--"
            raise EpicError(f"{word}: begins with a long dash; expected {dashes}{word[1:]}")
        if word.startswith("-") and len(word) > 1:
            option, _, value = word.partition("=")
            _refuse_option(option, word)
        if option == "--config":
            if value:
                keys.append(value)
        elif value == word and _is_config_assignment(option, word):
            keys.append(word)
        else:
            words.append(word)
            if value:
                _refuse_value(option, value, is_dry=not DRY.isdisjoint(arguments))
    return words, keys


def _is_config_assignment(option: str, word: str) -> bool:
    """Whether a word is meant as KEY=VALUE, even if there is no such key.

    Args:
        option: The last option before the word.
        word: The word.

    Raises:
        EpicError: The word is a key without a value.
    """
    name, equals, _ = word.partition("=")
    if not equals:
        if "." in name and name in names_of(Settings):
            raise EpicError(f"{name}: is a key of the config; expected {name}=VALUE")
        return False
    # After --set-resources and its like, NAME=VALUE is meant for that option, unless the name has a
    # dot as a key of the config has: `train.epochs`. RULE:NAME=VALUE does not match KEY.
    return bool(KEY.fullmatch(name)) and (option not in OPTIONS_WITH_ASSIGNMENTS or "." in name)


def _refuse_option(option: str, word: str) -> None:
    """Raise if an option is none of Snakemake's.

    Args:
        option: The option without its value: `--cores`.
        word: The word as typed, which may have the value behind `=`: `--cores=4`.

    Raises:
        EpicError: The option is a key of the config with dashes before it, or a long option with a
            single dash, or is unknown.
    """
    name, _, value = word.lstrip("-").partition("=")
    if name in names_of(Settings) and option not in COMMON_OPTIONS:
        raise EpicError(f"{word}: a key has no dashes; expected {name}={value or 'VALUE'}")
    if f"-{option}" in COMMON_OPTIONS:  # Snakemake would read -configfile as -c onfigfile.
        raise EpicError(f"{word}: a long option has two dashes; expected -{word}")
    if option in COMMON_OPTIONS or not option.startswith("--"):
        return
    # This import takes a second.
    from snakemake.cli import get_argument_parser

    known = get_argument_parser()._option_string_actions
    if not any(known_option.startswith(option) for known_option in known):
        # The option may be the last name of a key: --batch-size of train.batch_size.
        ending = "." + option.lstrip("-").replace("-", "_")
        keys = [name for name in names_of(Settings) if name.endswith(ending)]
        hint = did_you_mean(option, known) or ";"
        if keys:
            hint = f"; did you mean {keys[0]}={value or 'VALUE'}?"
        raise EpicError(
            f"{option}: no option of Snakemake{hint} `snakemake --help` lists them; a key of the "
            "config is KEY=VALUE"
        )


def _refuse_value(option: str, value: str, is_dry: bool) -> None:
    """Raise if an option names a config, profile or folder that is not there or not usable.

    Args:
        option: The option without its value.
        value: The value, or one of its values.
        is_dry: Whether the call is a dry run, which makes no missing folder.
    """
    if option in ("--configfile", "--configfiles"):
        _refuse_config(option, value)
    elif option == "--profile":
        if value != "none" and not any(map(os.path.exists, _profiles(value))):
            names = [path.name for path in (ROOT / "profiles").iterdir() if path.is_dir()]
            meant = did_you_mean(Path(value).name, names, "profiles/{}")
            raise EpicError(
                f"{option} {value}: no such profile{meant}; expected a folder with config.yaml"
            )
    elif option in ("--directory", "-d") and is_dry and not os.path.isdir(value):
        raise EpicError(
            f"{option} {value}: no such folder, and a dry run makes none{nearest_file(value)}"
        )


def _profiles(name: str) -> list[str]:
    """List the folders in which Snakemake looks for a profile."""
    users_folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [
        name,
        *(os.path.join(folder, "snakemake", name) for folder in (users_folder, "/etc/xdg")),
    ]


def _refuse_config(option: str, word: str) -> None:
    """Raise if a word behind --configfile is no config file; it may be a target."""
    path = Path(word)
    if path.is_file():
        read_layer(path)
    elif path.suffix not in (".yaml", ".yml", ".json"):
        raise EpicError(
            f"{word}: no config file, but {option} takes every word behind it; put targets before "
            f"the options: {word} {option} ..."
        )
    else:
        raise EpicError(
            f"{option} {word}: no such config file{nearest_file(word, ROOT)}; "
            f"expected YAML, correct {option}"
        )


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
        refuse_foreign_config(value, ROOT)
    return option + equals + path
