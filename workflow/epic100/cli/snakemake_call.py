"""How the commands call Snakemake: with this Python, on the workflow's own Snakefile."""

import os
import sys
from collections.abc import Sequence

from epic100.base.shipped import ROOT, existing_path
from epic100.cli.call_checks import refuse_slips

SHIPPED = ("config/", "profiles/")  # their files may be named as in a clone


def snakemake_command(arguments: Sequence[str]) -> list[str]:
    """Build the command line of Snakemake with these arguments.

    A config or profile that the current folder does not have (`profiles/vsc`,
    `config/trainval.yaml`) is replaced by the one in the package.

    Raises:
        EpicError: As in `refuse_slips`.
    """
    named = {option.partition("=")[0] for option in arguments}
    command = [sys.executable, "-P", "-m", "snakemake"]
    if not named & {"--snakefile", "-s"}:
        command += ["--snakefile", str(ROOT / "Snakefile")]
    words = [_shipped(argument) for argument in arguments]
    refuse_slips(words)
    return command + words


def with_screen(arguments: Sequence[str]) -> list[str]:
    """Add `--logger epic100` to the arguments, unless they name another logger."""
    named = any(argument.partition("=")[0] == "--logger" for argument in arguments)
    # Last, since Snakemake reads every word after it as a logger's name.
    return [*arguments] if named else [*arguments, "--logger", "epic100"]


def replace_this_process(command: Sequence[str]) -> int:
    """Replace this process by Snakemake, so that signals and exit code are Snakemake's."""
    sys.stdout.flush()
    os.execv(command[0], list(command))


def _shipped(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    if not value.startswith(SHIPPED) or (equals and not option.startswith("-")):
        return argument
    return option + equals + existing_path(value)
