"""`epic100 migrate`: bring a lab's lists and checkpoint along (docs/migration.md)."""

import argparse
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT
from epic100.base.text_table import write_frame
from epic100.migrate.check import check_list, summary
from epic100.migrate.lists import LabList, convert_list, match_list
from epic100.migrate.pair_order import ORDERS, order_of_list, read_pair_order
from epic100.video.sheet import Video, read_sheet

SHEET = ROOT / "config" / "videos.tsv"


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the commands `list`, `check` and `model`; each sets the option `run`."""
    classes = argparse.ArgumentParser(add_help=False)
    classes.add_argument("--num-verbs", type=int, default=97, metavar="N")
    classes.add_argument("--num-nouns", type=int, default=300, metavar="N")
    of_list = argparse.ArgumentParser(add_help=False, parents=[classes])
    of_list.add_argument("list", type=Path, metavar="LIST", help="path start stop verb noun")
    of_list.add_argument("--annotations", type=Path, required=True, metavar="CSV",
                         help="the official CSV that it was made from")  # fmt: skip
    of_list.add_argument("--sheet", type=Path, default=SHEET, metavar="TSV", help="video sheet")
    commands = parser.add_subparsers(dest="part", required=True)

    command = commands.add_parser("list", help="five fields on the annotation clock -> ours",
                                  parents=[of_list])  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="FILE",
                         help=".csv: official rows; else a segment list")  # fmt: skip
    command.set_defaults(run=_convert)

    command = commands.add_parser("check", help="hold a list to the scans", parents=[of_list])
    command.add_argument("--scans", type=Path, default=Path("results/scan"), metavar="DIR")
    command.add_argument("--out", type=Path, required=True, metavar="TSV")
    command.set_defaults(run=_check)

    command = commands.add_parser("model", help="an MMAction2 checkpoint -> model.pth",
                                  parents=[classes])  # fmt: skip
    command.add_argument("checkpoint", type=Path, metavar="PTH")
    command.add_argument("--pairs", type=Path, metavar="FILE", help="the pair of each output")
    command.add_argument("--train-list", type=Path, metavar="LIST",
                         help="gives the counts, and without --pairs the order too")  # fmt: skip
    command.add_argument("--order", choices=ORDERS, default="sorted",
                         help="how the pairs of --train-list were numbered")  # fmt: skip
    command.add_argument("--config", type=Path, metavar="PY",
                         help="MMAction2 config; else the one in the checkpoint")  # fmt: skip
    command.add_argument("--allow-pickle", action="store_true",
                         help="load any object in it; runs code of the file")  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="PTH")
    command.set_defaults(run=_model)


def _matched(options: argparse.Namespace) -> tuple[LabList, dict[str, Video]]:
    videos = {video.video_id: video for video in read_sheet(options.sheet)}
    found = match_list(
        options.list, options.annotations, videos,
        num_verbs=options.num_verbs, num_nouns=options.num_nouns,
    )  # fmt: skip
    return found, videos


def _convert(options: argparse.Namespace) -> int:
    found, videos = _matched(options)
    convert_list(found, options.annotations, videos, options.out)
    count, strange = int(found.matched.sum()), int((~found.matched).sum())
    print(f"{options.list}: {count} lines are rows of {options.annotations}, {strange} are not")
    print(f"{options.out} written")
    return 0


def _check(options: argparse.Namespace) -> int:
    found, videos = _matched(options)
    findings = check_list(found, videos, options.scans)
    write_frame(findings, options.out)
    print("\n".join([*summary(found, findings), f"{options.out} names them"]))
    return 0


def _model(options: argparse.Namespace) -> int:
    from epic100.migrate.checkpoint import migrate_model  # takes seconds

    if not options.pairs and not options.train_list:
        raise EpicError("model: nothing says what the outputs stand for: --pairs or --train-list")
    counts = None
    if options.train_list:
        pairs, counts = order_of_list(options.train_list, options.order)
    if options.pairs:
        pairs = read_pair_order(options.pairs)
    lines = migrate_model(
        options.checkpoint, options.out, pairs, counts=counts, config=options.config,
        num_verbs=options.num_verbs, num_nouns=options.num_nouns,
        allow_pickle=options.allow_pickle,
    )  # fmt: skip
    print("\n".join(lines))
    return 0
