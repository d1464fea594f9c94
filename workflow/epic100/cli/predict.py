"""`epic100 predict`: what a trained model sees in whole videos, as timelines."""

import argparse
import logging

from epic100.base.errors import EpicError
from epic100.base.log import log_to_stdout
from epic100.segments.official_lists import CLASS_LISTS, read_class_names
from epic100.settings import PredictSettings, TimelineSettings, checked
from epic100.timeline.run import ModelInUse, make_timelines

EPILOG = """\
For each video, four files are written: NAME.tsv, NAME.json (also the best classes of every clip),
NAME.vtt (captions for a player) and NAME.activitynet.json. The same command, run again, keeps what
is finished and goes on where it was stopped. How clips are merged: docs/timeline.md.
"""
OF_TIMELINE = ("stride", "window", "smooth", "threshold", "min_seconds")
OF_PREDICT = ("device", "gpus", "batch_size", "workers")


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options. Those that are keys of the config have its words."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files of any format")
    parser.add_argument("--model", required=True, action="append", help="results/model.pth")
    parser.add_argument("--out", default="timeline", help="folder to write (default: timeline)")
    parser.add_argument(
        "--class-lists", nargs=2, metavar=("VERBS", "NOUNS"),
        help="EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv, for a model without names",
    )  # fmt: skip
    fields = {**TimelineSettings.model_fields, **PredictSettings.model_fields}
    for name in (*OF_TIMELINE, *OF_PREDICT):
        kind = str if name == "device" else float if name in OF_TIMELINE else int
        parser.add_argument(
            "--" + name.replace("_", "-"), type=kind, default=fields[name].default,
            help=f"{fields[name].description} (default: %(default)s)",
        )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the timelines; return 130 after Ctrl-C, else 0."""
    if len(options.model) > 1:
        raise EpicError(
            f"--model is given {len(options.model)} times; a timeline takes one model; call once "
            "for each, with an --out of its own"
        )
    given = vars(options)
    timeline = checked(TimelineSettings, {name: given[name] for name in OF_TIMELINE}, prefix="--")
    predict = checked(PredictSettings, {name: given[name] for name in OF_PREDICT}, prefix="--")
    names = None
    if options.class_lists:
        names = read_class_names((), dict(zip(CLASS_LISTS, options.class_lists, strict=True)))
    log_to_stdout()
    try:
        model = ModelInUse(options.model[0], names)
        make_timelines(options.videos, model, options.out, settings=timeline, predict=predict)
    except KeyboardInterrupt:
        logging.getLogger(__name__).error("stopped by Ctrl-C; the same command goes on")
        return 130
    return 0
