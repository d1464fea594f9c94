"""`epic100 demo` and `epic100 run`: Snakemake on the workflow's own Snakefile, with this Python."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT, existing_path
from epic100.settings import read_layer

EPILOG = """\
Every other word is Snakemake's own: results/submission.pt, -n, --configfile, --profile ...
A file of config/ or profiles/ that this folder does not have is the one that ships.
"""
SHIPPED = ("config/", "profiles/")  # their files may be named as in a clone


def fill_demo(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `demo`."""
    parser.usage = "epic100 demo [-h] [--directory DIR] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = "Every other word is Snakemake's own: -n, --cores 4, a target ..."
    parser.add_argument("--directory", default="demo", help="where it is made (default: demo)")
    demo = ["--configfile", str(ROOT / "config/demo.yaml")]
    parser.set_defaults(
        passes_on=True,
        run=lambda given: run_snakemake([*demo, "--directory", given.directory, *given.rest]),
    )


def fill_run(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `run`."""
    parser.usage = "epic100 run [-h] [TARGET ...] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(passes_on=True, run=lambda given: run_snakemake(given.rest))


def run_snakemake(arguments: Sequence[str]) -> int:
    """Replace this process by Snakemake, so that signals and exit code are Snakemake's.

    Raises:
        EpicError: See `snakemake_command`.
    """
    command = snakemake_command(arguments)
    sys.stdout.flush()
    os.execv(command[0], command)


def snakemake_command(arguments: Sequence[str]) -> list[str]:
    """Build the command line of Snakemake with these arguments.

    A config or profile that the current folder does not have (`profiles/vsc`,
    `config/trainval.yaml`) is replaced by the one in the package. The logger is `epic100`, unless
    the arguments name another.

    Raises:
        EpicError: A mistake that Snakemake would report without naming file or argument: a target
            among the config files, a config file that is missing, empty or not YAML, or a key with
            a dot.
    """
    words = [_shipped(argument) for argument in arguments]
    named = {word.partition("=")[0] for word in words}
    option = ""
    for word in words:
        if word.startswith("-"):
            option, _, word = word.partition("=")
        if word and option in ("--configfile", "--configfiles"):
            _refuse_file(option, word)
        elif option == "--config" and "." in word.partition("=")[0]:
            section, _, rest = word.partition(".")
            key, _, value = rest.partition("=")
            raise EpicError(
                f"--config {word}: the key has a dot in it; expected a file for --configfile, with "
                f"the line `{section}: {{{key}: {value}}}`"
            )
    command = [sys.executable, "-P", "-m", "snakemake"]
    if not named & {"--snakefile", "-s"}:
        command += ["--snakefile", str(ROOT / "Snakefile")]
    # Last, since Snakemake reads every word after it as a logger's name.
    return command + words + ([] if "--logger" in named else ["--logger", "epic100"])


def _shipped(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    if not value.startswith(SHIPPED) or (equals and not option.startswith("-")):
        return argument
    return option + equals + existing_path(value)


def _refuse_file(option: str, word: str) -> None:
    path = Path(word)
    if path.is_file():
        read_layer(path)
    elif path.suffix not in (".yaml", ".yml", ".json"):
        raise EpicError(
            f"{word}: no config file, but {option} takes every word behind it; put targets before "
            f"the options: {word} {option} ..."
        )
    else:
        raise EpicError(f"{word}: no such config file; expected YAML, correct {option}")
