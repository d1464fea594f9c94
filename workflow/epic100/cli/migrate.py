"""`epic100 migrate` (docs/migration.md) and `epic100 adopt` (docs/first-day.md)."""

import argparse
import difflib

from epic100.base.errors import EpicError
from epic100.base.shipped import existing_path
from epic100.cli.adopt import adopt, adopt_encoder, describe_published
from epic100.cli.lab_checkpoint import migrate_model, pairs_in_output_order, read_pair_order
from epic100.data.official_lists import CLASS_LISTS, find_lists
from epic100.model.published import published
from epic100.settings.config import layered_settings


def model(options: argparse.Namespace) -> int:
    """Write a lab's checkpoint as a model file of the workflow; return 0."""
    if not options.pairs and not options.train_list:
        raise EpicError(
            "model: nothing says what the outputs stand for; give --pairs or --train-list"
        )
    counts = None
    if options.train_list:
        pairs, counts = pairs_in_output_order(options.train_list, options.order)
    # The option --pairs replaces the order of the train list, whose counts stay.
    if options.pairs:
        pairs = read_pair_order(options.pairs)
    lines = migrate_model(
        options.checkpoint,
        options.out,
        pairs,
        counts=counts,
        config=options.config,
        num_verbs=options.num_verbs,
        num_nouns=options.num_nouns,
    )
    print("\n".join(lines))
    return 0


def adopted(options: argparse.Namespace) -> int:
    """List the published models, or write one as a model file or as start weights; return 0."""
    if options.name is None:
        print("\n".join(describe_published()))
        return 0
    if options.name not in published():
        # Below the usual cutoff of 0.6 nothing would be found; with 0, there is always one name.
        (closest,) = difflib.get_close_matches(options.name, published(), n=1, cutoff=0)
        raise EpicError(
            f"{options.name}: no published model of this name; did you mean {closest}? "
            f"Known are {', '.join(published())}"
        )
    if options.file is None or options.out is None:
        raise EpicError(
            f"adopt {options.name}: no file is named; expected epic100 adopt {options.name} FILE "
            f"--out weights/{options.name}.pth, with the file of {published()[options.name].url}"
        )
    if options.encoder:
        lines = adopt_encoder(options.name, options.file, options.out, options.frames)
    else:
        folder = options.directory
        config = layered_settings([existing_path(path) for path in options.configfile], folder)
        train, val = folder / config.annotations.train, folder / config.annotations.val
        lists = find_lists(val, config.evaluate.model_dump(), lists=CLASS_LISTS)
        lines = adopt(options.name, options.file, options.out, train=train, val=val, lists=lists)
    print("\n".join(lines))
    return 0
