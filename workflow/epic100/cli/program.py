"""The command `epic100`: one entry point to the workflow, from a clone or from a wheel.

`demo` and `run` start Snakemake on the workflow's own Snakefile. `migrate`, `submission` and
`compare` are the commands of `python -m epic100.migrate`, and so on.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

import shtab

from epic100.base.command import run_options

HELP = """\
From the official CSVs and full-length videos of EPIC-KITCHENS-100 to a trained model and a
submission.

  epic100 demo                      films a mini kitchen in ./demo and runs everything on it
  epic100 check                     whether config, annotations and videos are there
  epic100 run -n                    what would run here; config/config.yaml names your data
  epic100 run --profile profiles/vsc all     on Slurm
  epic100 predict VIDEO --model results/model.pth    a timeline of actions
  epic100 submission check results/submission.zip --split test
"""
COMPLETION = "--print-completion"


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        help: One line for `--help`.
        module: Has `fill_parser(parser)`, which also sets `run`, a function that takes the options
            and returns an exit code. It is imported only when the command is used, since some
            modules take seconds.
        passes_on: Whether arguments that the parser does not know go to Snakemake.
    """

    help: str
    module: str
    passes_on: bool = False


COMMANDS = {
    "demo": Command("film a mini kitchen and run everything on it", "epic100.cli.demo", True),
    "run": Command("run the workflow in this folder", "epic100.cli.run", True),
    "check": Command("say what a run in this folder would find", "epic100.cli.check"),
    "predict": Command("see what a model sees in whole videos", "epic100.cli.predict"),
    "migrate": Command("bring a lab's lists and checkpoint along", "epic100.migrate.__main__"),
    "submission": Command("look at a submission before it is sent", "epic100.submission.__main__"),
    "compare": Command("say whether one model is better than another", "epic100.compare.__main__"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `epic100`; None takes those of this process.

    Returns:
        The exit code: 0, or 1 with one line on stderr if the input is wrong, or Snakemake's.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser(arguments)
    options, rest = parser.parse_known_args(arguments)
    if rest and not COMMANDS[options.command].passes_on:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    return run_options(options)


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser.

    Args:
        arguments: Words after `epic100`. Only the command that they name gets its options, or all
            commands if a completion script is requested.
    """
    parser = argparse.ArgumentParser(
        prog="epic100", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"epic100 {version('epic100')}")
    shtab.add_argument_to(parser, [COMPLETION], help="print a script of completions for your shell")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True,
        parser_class=argparse.ArgumentParser,
    )  # fmt: skip
    for name, command in COMMANDS.items():
        own = commands.add_parser(
            name, help=command.help, description=command.help.capitalize() + ".",
            allow_abbrev=False,
        )  # fmt: skip
        if name in arguments[:1] or COMPLETION in arguments:
            import_module(command.module).fill_parser(own)
    return parser


def run_and_exit() -> NoReturn:
    """Run the installed command `epic100`."""
    sys.exit(main())
