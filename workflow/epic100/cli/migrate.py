"""The words of `epic100 migrate` (docs/migration.md)."""

import argparse
from pathlib import Path

from epic100.base.shipped import ROOT


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the commands `list`, `check` and `model`."""
    classes = argparse.ArgumentParser(add_help=False)
    classes.add_argument("--num-verbs", type=int, default=97, metavar="N")
    classes.add_argument("--num-nouns", type=int, default=300, metavar="N")
    of_list = argparse.ArgumentParser(add_help=False, parents=[classes])
    of_list.add_argument("list", type=Path, metavar="LIST", help="path start stop verb noun")
    of_list.add_argument("--annotations", type=Path, required=True, metavar="CSV",
                         help="the official CSV that it was made from")  # fmt: skip
    of_list.add_argument(
        "--sheet", type=Path, default=ROOT / "config/videos.tsv", metavar="TSV", help="video sheet"
    )
    commands = parser.add_subparsers(dest="part", required=True)

    command = commands.add_parser("list", help="five fields on the annotation clock -> ours",
                                  parents=[of_list])  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="FILE",
                         help=".csv: official rows; else a segment list")  # fmt: skip
    command.set_defaults(run="epic100.migrate.command:convert")

    command = commands.add_parser("check", help="hold a list to the scans", parents=[of_list])
    command.add_argument("--scans", type=Path, default=Path("results/scan"), metavar="DIR")
    command.add_argument("--out", type=Path, required=True, metavar="TSV")
    command.set_defaults(run="epic100.migrate.command:check")

    command = commands.add_parser("model", help="an MMAction2 checkpoint -> model.pth",
                                  parents=[classes])  # fmt: skip
    command.add_argument("checkpoint", type=Path, metavar="PTH")
    command.add_argument("--pairs", type=Path, metavar="FILE", help="the pair of each output")
    command.add_argument("--train-list", type=Path, metavar="LIST",
                         help="gives the counts, and without --pairs the order too")  # fmt: skip
    command.add_argument("--order", choices=("sorted", "first-seen"), default="sorted",
                         help="how the pairs of --train-list were numbered")  # fmt: skip
    command.add_argument("--config", type=Path, metavar="PY",
                         help="MMAction2 config; else the one in the checkpoint")  # fmt: skip
    command.add_argument("--allow-pickle", action="store_true",
                         help="load any object in it; runs code of the file")  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="PTH")
    command.set_defaults(run="epic100.migrate.command:model")
