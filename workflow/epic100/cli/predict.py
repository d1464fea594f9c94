"""The words of `epic100 predict`."""

import argparse

from epic100.settings import PredictSettings, TimelineSettings

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
    sections = (
        ("timeline", TimelineSettings, OF_TIMELINE),
        ("predict", PredictSettings, OF_PREDICT),
    )
    for section, kind, names in sections:
        for name in names:
            field = kind.model_fields[name]
            number = float if section == "timeline" else int
            parser.add_argument(
                "--" + name.replace("_", "-"), type=str if name == "device" else number,
                dest=f"{section}.{name}", metavar=name.upper(), default=field.default,
                help=f"{field.description} (default: %(default)s)",
            )  # fmt: skip
    parser.set_defaults(run="epic100.timeline.command:run")
