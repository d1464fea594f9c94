"""The words of `epic100 submission`."""

import argparse
from pathlib import Path


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command `check`."""
    commands = parser.add_subparsers(dest="part", required=True)
    command = commands.add_parser("check", help="say what is wrong with a submission")
    command.add_argument("file", type=Path, metavar="FILE", help=".pt or .zip")
    wanted = command.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--split", choices=("train", "val", "test"), help="as the config has it")
    wanted.add_argument("--annotations", type=Path, metavar="CSV", help="EPIC_100_*.csv")
    command.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="over config/config.yaml, as given"
        " to snakemake",
    )  # fmt: skip
    command.add_argument("--directory", type=Path, default=Path(), help="as given to snakemake")
    command.add_argument("--num-verbs", type=int)
    command.add_argument("--num-nouns", type=int)
    command.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also read .pkl files and NumPy arrays; runs code of the file, so trust it first",
    )
    command.add_argument(
        "--allow-prior", type=float, metavar="SHARE", default=0.5,
        help="share of segments, 0 to 1, that may be without a prediction (default: %(default)s)",
    )  # fmt: skip
    command.set_defaults(run="epic100.submission.command:run")
