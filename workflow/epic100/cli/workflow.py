"""`epic100 demo`, `run` and `test`: run Snakemake with this Python on the workflow's Snakefile."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yte import process_yaml

from epic100.base.disk import read_text, reading
from epic100.base.errors import EpicError
from epic100.base.names import nearest_file
from epic100.base.shipped import ROOT
from epic100.cli.typed import separate_keys, shipped
from epic100.settings import SET, set_words


def run(given: argparse.Namespace) -> int:
    """Run the workflow."""
    return run_snakemake(given.rest)


def run_demo(given: argparse.Namespace) -> int:
    """Run the workflow on the mini kitchen."""
    # `separate_keys` refuses a missing folder before a dry run, but the user did not type this one.
    os.makedirs(given.directory, exist_ok=True)
    demo = ["--configfile", str(ROOT / "config/demo.yaml"), "--directory", given.directory]
    return run_snakemake([*demo, *given.rest])


def run_test(given: argparse.Namespace) -> int:
    """Score a finished model on the validation split."""
    if not given.model.is_file():
        no_file = f"no such file{nearest_file(given.model)}"
        fault = "is a folder" if given.model.is_dir() else no_file
        raise EpicError(f"{given.model}: {fault}; expected a model, as results/model.pth")
    with reading(given.model) as file:
        head = file.read(2**16)
    # The keys of a submission and the format of predictions are in the first kilobytes of a file.
    is_scores = given.model.suffix in (".zip", ".pkl")
    if is_scores or b"verb_output" in head or b"epic100 predictions" in head:
        raise EpicError(
            f"{given.model}: holds scores, and is no model; for their figures: "
            f"epic100 score {given.model}"
        )
    name = given.name or given.model.stem
    return run_snakemake(
        [f"results/runs/{name}/metrics.json", f"results/runs/{name}/summary.txt", *given.rest],
        keys={"run": name, "predict.model": str(given.model.resolve())},
    )


def run_snakemake(arguments: Sequence[str], keys: Mapping[str, Any] | None = None) -> int:
    """Replace this process by Snakemake, so that signals and exit code are Snakemake's.

    Raises:
        EpicError: See `snakemake_command`.
    """
    command = snakemake_command(arguments, keys)
    sys.stdout.flush()
    os.execv(command[0], command)


def snakemake_command(arguments: Sequence[str], keys: Mapping[str, Any] | None = None) -> list[str]:
    """Build the command line of Snakemake with these arguments.

    A config or profile that the current folder does not have (`profiles/vsc`,
    `config/trainval.yaml`) is replaced by the one in the package. The logger is `epic100` and the
    options are those of `profiles/default`, unless the arguments name others. Words KEY=VALUE, also
    those behind `--config`, may name a key of any depth.

    Args:
        arguments: As they were typed.
        keys: Values of the config, by dotted keys.

    Raises:
        EpicError: A typed word is a mistake that Snakemake would report without naming it: an
            unknown option or key, a target among the config files, a file that is missing or not
            YAML. Or a config or profile in the current folder belongs to another user.
    """
    words, typed_keys = separate_keys(arguments)
    option_names = {word.partition("=")[0] for word in words}
    command = [sys.executable, "-P", "-m", "snakemake"]
    if not option_names & {"--snakefile", "-s"}:
        command += ["--snakefile", str(ROOT / "Snakefile")]
    if typed_keys or keys:
        # Snakemake's `--config` takes no key with dots, so all keys travel as the value of one.
        words += ["--config", f"{SET}={set_words(typed_keys, keys)}"]
    if "--workflow-profile" not in option_names:
        command += _defaults()
    # `--logger` comes last, since Snakemake reads every word after it as a logger's name.
    return command + words + ([] if "--logger" in option_names else ["--logger", "epic100"])


def _defaults() -> list[str]:
    """List the options of the default profile.

    The shipped profile becomes words, since Snakemake prints a line about each profile that it
    reads. A profile in the current folder is named as a profile, so that this line is printed.
    """
    folder = shipped("profiles/default")
    if not (ROOT / "profiles/default").samefile(folder):
        return ["--workflow-profile", folder]
    words = []
    # Expressions in the profile read `sys.argv`, which here has the words of this command.
    options = process_yaml(read_text(Path(folder, "config.yaml")), require_use_yte=True)
    for name, value in options.items():
        if value is None:  # An expression says that the option is not given.
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(str(item) for item in values if item is not True)]
    return [*words, "--workflow-profile", "none"]
