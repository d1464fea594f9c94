"""The words of `epic100 compare`."""

import argparse
from pathlib import Path


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("first", type=Path, metavar="A", help="predictions or submission of val")
    parser.add_argument("second", type=Path, metavar="B", help="the one that is held against it")
    parser.add_argument(
        "--segments", type=Path, metavar="TXT",
        help="the truth; default: results/segments/val.txt of --directory",
    )  # fmt: skip
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[],
        help="over config/config.yaml, as given to snakemake",
    )  # fmt: skip
    parser.add_argument("--directory", type=Path, default=Path(), help="as given to snakemake")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")
    parser.set_defaults(run="epic100.compare.command:run")
