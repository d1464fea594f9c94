"""Runs a command whose parser sets `run`: a function of the options that returns an exit code."""

import argparse
import sys
from collections.abc import Callable, Sequence

from epic100.base.errors import EpicError, last_line


def run_module(
    name: str, about: str | None, fill_parser: Callable[[argparse.ArgumentParser], None],
    arguments: Sequence[str] | None,
) -> int:  # fmt: skip
    """Run `python -m epic100.{name}`, with `about` as its help; see `run_options`."""
    parser = argparse.ArgumentParser(prog=f"python -m epic100.{name}", description=about)
    fill_parser(parser)
    return run_options(parser.parse_args(arguments))


def run_options(options: argparse.Namespace) -> int:
    """Call `options.run`; wrong input is one line on stderr and the exit code 1."""
    try:
        return options.run(options)
    except EpicError as error:
        print(" ".join(last_line(error).split()), file=sys.stderr)
        return 1
