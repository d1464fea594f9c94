"""The program `epic100`: its commands, its parser and its exit codes."""

import argparse
import os
import pkgutil
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from epic100.base.errors import EpicError, did_you_mean, import_error
from epic100.base.shipped import ROOT

HELP = """\
From the official CSVs and full-length videos of EPIC-KITCHENS-100 to a trained model and a
submission.

  epic100 demo                      films a mini kitchen in ./demo and runs everything on it
  epic100 check                     whether a run here would come to its end
  epic100 run -n                    what would run here; config/config.yaml names your data
  epic100 run --profile profiles/vsc all     on a cluster
  epic100 adopt                     models that others trained on EPIC-KITCHENS-100
  epic100 test lab/model.pth        its official metrics, in results/runs/model
  epic100 score submission.zip      the same of any file of scores, without a run
  epic100 predict VIDEO --model results/model.pth    a timeline of actions
  epic100 submission check results/submission.zip --split test
"""
COMPLETION = "--print-completion"
# Each command has a line for `--help` and the function that adds its options to a parser. The
# parser's default `run` names the function that takes the options and returns an exit code. If the
# default `passes_on` is true, words that the command does not know go to Snakemake.
COMMANDS = {
    "demo": ("film a mini kitchen and run everything on it", "epic100.cli.words:fill_demo"),
    "run": ("run the workflow in this folder", "epic100.cli.words:fill_run"),
    "test": ("score a model on the validation split", "epic100.cli.words:fill_test"),
    "score": ("say the official metrics of any model's scores", "epic100.cli.words:fill_score"),
    "check": (
        "say whether a run in this folder would come to its end",
        "epic100.cli.words:fill_check",
    ),
    "predict": ("see what a model sees in complete videos", "epic100.cli.words:fill_predict"),
    "adopt": ("take over a model trained on EPIC-KITCHENS-100", "epic100.cli.words:fill_adopt"),
    "migrate": ("bring a lab's lists and checkpoint along", "epic100.cli.words:fill_migrate"),
    "submission": (
        "check a submission before it is sent",
        "epic100.cli.words:fill_submission",
    ),
    "compare": (
        "say whether one model is better than another",
        "epic100.cli.words:fill_compare",
    ),
}
# These were commands of earlier versions, with what to do now.
GONE = {
    "publish": "upload results/model.pth with results/model_card.md as README.md (docs/results.md)"
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `epic100`; None takes the words of this process.

    Returns:
        The exit code: 0; 1 if the input is wrong, after a line on stderr for each mistake; or that
        of Snakemake.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # The parser of a command sets `run`, and `passes_on` if it has one (`COMMANDS`).
    options = argparse.Namespace(passes_on=False)
    try:
        parser, commands = build_parser(arguments)
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise EpicError(_no_command(arguments[0]))
        # `options` itself is filled. The unknown words are left over.
        _, options.rest = parser.parse_known_args(arguments, options)
        if options.rest and not options.passes_on:
            # The usage names all long options of the command.
            known = re.findall(r"--[\w-]+", commands[options.command].format_usage())
            meant = did_you_mean(options.rest[0], known)
            parser.error(f"unrecognized arguments: {' '.join(options.rest)}{meant}")
        if os.environ.get("PYTHONPATH"):  # Modules of a cluster may have a NumPy of another Python.
            pkgutil.resolve_name("numpy")
        if options.command in ("score", "compare", "submission") and not options.annotations:
            for line in pkgutil.resolve_name("epic100.cli.where:reject_other_folder")(options):
                print(line, file=sys.stderr)
        code: int = pkgutil.resolve_name(options.run)(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ImportError as error:
        print("error:", import_error(error), file=sys.stderr)
        return 1
    except EpicError as error:
        for line in str(error).splitlines():
            print("error:", line, file=sys.stderr)
        return 1


def _no_command(word: str) -> str:
    """Write the message about a word that is no command, with what to type in its place."""
    if word in GONE:
        return f"{word}: this command is gone; {GONE[word]}"
    rules = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("rules/*.smk"))
    if "/" in word or word == "all" or re.search(rf"(?m)^ *rule {re.escape(word)}:", rules):
        return f"{word}: no command but a target of the workflow; expected epic100 run {word}"
    if "=" in word:
        return f"{word}: no command but a key of the config; expected epic100 run {word}"
    hint = did_you_mean(word, COMMANDS, "epic100 {}") or "; `epic100 --help` lists them"
    return f"{word}: no such command{hint}"


def build_parser(
    arguments: Sequence[str],
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Build the parser of the program and the parsers of its commands, by name.

    Args:
        arguments: Words after `epic100`. Only the command that they name gets its options, or all
            commands if a completion script is requested.
    """
    parser = argparse.ArgumentParser(
        prog="epic100",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"epic100 {version('epic100')}")
    # Snakemake imports this module for `COMMANDS`, also in an environment without this package.
    import shtab

    shtab.add_argument_to(parser, [COMPLETION], help="print a script of completions for your shell")
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        required=True,
        parser_class=argparse.ArgumentParser,
    )
    for name, (summary, filler) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary.capitalize() + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name in arguments[:1] or COMPLETION in arguments:
            pkgutil.resolve_name(filler)(command)
    return parser, commands.choices


def run_and_exit() -> NoReturn:
    """Run the installed command `epic100`."""
    sys.exit(main())
