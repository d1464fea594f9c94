"""`epic100 migrate` (docs/migration.md) and `epic100 convert` (docs/recipe.md)."""

import argparse

from epic100.base.errors import EpicError
from epic100.base.text_table import write_frame
from epic100.migrate.checkpoint import migrate_model, order_of_list, read_pair_order
from epic100.migrate.encoder import convert_encoder
from epic100.migrate.lists import LabList, check_list, convert_list, match_list, summary
from epic100.video.sheet import Video, read_sheet


def _matched(options: argparse.Namespace) -> tuple[LabList, dict[str, Video]]:
    videos = {video.video_id: video for video in read_sheet(options.sheet)}
    found = match_list(
        options.list, options.annotations, videos,
        num_verbs=options.num_verbs, num_nouns=options.num_nouns,
    )  # fmt: skip
    return found, videos


def convert(options: argparse.Namespace) -> int:
    """Write a lab's list as ours, or as official rows; return 0."""
    found, videos = _matched(options)
    convert_list(found, options.annotations, videos, options.out)
    count, strange = int(found.matched.sum()), int((~found.matched).sum())
    print(f"{options.list}: {count} lines are rows of {options.annotations}, {strange} are not")
    print(f"{options.out} written")
    return 0


def check(options: argparse.Namespace) -> int:
    """Write where a lab's list and the scans disagree; return 0."""
    found, videos = _matched(options)
    findings = check_list(found, videos, options.scans)
    write_frame(findings, options.out)
    print("\n".join([*summary(found, findings), f"{options.out} names them"]))
    return 0


def model(options: argparse.Namespace) -> int:
    """Write a lab's checkpoint as a model file; return 0."""
    if not options.pairs and not options.train_list:
        raise EpicError(
            "model: nothing says what the outputs stand for; give --pairs or --train-list"
        )
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


def encoder(options: argparse.Namespace) -> int:
    """Write the encoder of a published checkpoint as start weights; return 0."""
    lines = convert_encoder(options.kind, options.checkpoint, options.out, options.frames)
    print("\n".join(lines))
    return 0
