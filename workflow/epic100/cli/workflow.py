"""`epic100 demo`, `run` and `test`: Snakemake on the workflow's own Snakefile, with this Python."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from epic100.base.disk import reading
from epic100.base.errors import EpicError
from epic100.base.private import refuse_foreign
from epic100.base.shipped import ROOT, existing_path
from epic100.settings import Settings, read_layer, set_words

EPILOG = """\
KEY=VALUE sets a key of the config: train.epochs=3, videos.root=/scratch/videos, run=long
Every other word is Snakemake's own: results/submission.pt, -n, --configfile, --profile ...
A file of config/ or profiles/ that this folder does not have is the one that ships.
"""
# Options of Snakemake whose values look like KEY=VALUE.
OF_JOBS = (
    "--set-threads", "--set-resources", "--set-resource-scopes", "--resources", "--res",
    "--default-resources", "--default-res",
)  # fmt: skip
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
    parser.usage = "epic100 run [-h] [TARGET ...] [KEY=VALUE ...] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(passes_on=True, run=lambda given: run_snakemake(given.rest))


def fill_test(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `test`."""
    parser.usage = "epic100 test MODEL [--name NAME] [KEY=VALUE ...] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = "A checkpoint of MMAction2 becomes a model file with: epic100 migrate model"
    parser.add_argument("model", metavar="MODEL", type=Path, help="a model file, wherever it is")
    parser.add_argument("--name", help="of results/runs/NAME (default: the name of the file)")
    parser.set_defaults(passes_on=True, run=_test)


def _test(given: argparse.Namespace) -> int:
    if not given.model.is_file():
        raise EpicError(f"{given.model}: no such file; expected a model, as results/model.pth")
    with reading(given.model) as file:
        head = file.read(2**16)
    scores = given.model.suffix in (".zip", ".pkl")
    if scores or b"verb_output" in head or b"epic100 predictions" in head:
        raise EpicError(
            f"{given.model}: holds scores, and is no model; for their figures: "
            f"epic100 score {given.model}"
        )
    name = given.name or given.model.stem
    targets = [f"results/runs/{name}/{file}" for file in ("metrics.json", "summary.txt")]
    model = f"predict.model={given.model.resolve()}"
    return run_snakemake([*targets, f"run={name}", model, *given.rest])


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
    `config/trainval.yaml`) is replaced by the one in the package. The logger is `epic100` and the
    workflow's profile `profiles/default`, unless the arguments name others. Words KEY=VALUE, also
    those behind `--config`, may name a key of any
    depth.

    Raises:
        EpicError: A mistake that Snakemake would report without naming file or argument: a target
            among the config files, or a config file that is missing, empty or not YAML. Or a config
            or profile of another user is in the current folder.
    """
    words: list[str] = []
    keys: list[str] = []
    option = ""
    for word in map(_shipped, arguments):
        value = word
        if word.startswith("-"):
            option, _, value = word.partition("=")
        if option == "--config":
            keys += [value] if value else []
        elif value == word and option not in OF_JOBS and _names_key(word):
            keys.append(word)
        else:
            words.append(word)
            if option in ("--configfile", "--configfiles") and value:
                _refuse_file(option, value)
    named = {word.partition("=")[0] for word in words}
    command = [sys.executable, "-P", "-m", "snakemake"]
    if not named & {"--snakefile", "-s"}:
        command += ["--snakefile", str(ROOT / "Snakefile")]
    if keys:
        words += ["--config", set_words(keys)]
    if "--workflow-profile" not in named:  # else Snakemake reads a `default` of this folder first
        command += ["--workflow-profile", _shipped("profiles/default")]
    # Last, since Snakemake reads every word after it as a logger's name.
    return command + words + ([] if "--logger" in named else ["--logger", "epic100"])


def _names_key(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and key.partition(".")[0] in Settings.fields_by_key()


def _shipped(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    if not value.startswith(SHIPPED) or (equals and not option.startswith("-")):
        return argument
    found = existing_path(value)
    if found == value and not ROOT.samefile("."):
        refuse_foreign(value.partition("/")[0])
        refuse_foreign(value)
    return option + equals + found


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
