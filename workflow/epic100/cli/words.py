"""The options of the commands. The modules that run the commands take seconds to import."""

import argparse
from pathlib import Path

RUN_EPILOG = """\
targets (a file, or a rule that makes one; without any, `all`):
{targets}

KEY=VALUE sets a key of the config: train.epochs=3, videos.root=/scratch/videos, run=long
Every other word is Snakemake's own: results/submission.pt, -n, --configfile, --profile ...
A file of config/ or profiles/ that this folder does not have is the one that ships.
"""
TARGETS = {
    "all": "the submission, and all that is known of it",
    "results/submission.pt": "scores of val, for the official tools",
    "results/submission.zip": "scores of test, for the server",
    "results/metrics.json": "the official metrics on val",
    "results/report.html": "the report",
    "results/model.pth": "the trained model",
    "results/scan/P01.tsv": "what is damaged in the videos of a participant",
    "results/clean/dropped.tsv": "each lost segment, with its reason",
    "results/browse/index.html": "a page with each segment and its clip",
    "results/timeline/P01_01.tsv": "actions along a complete video",
    "results/features/P01.tsv": "features of complete videos; all_features: of all participants",
    "results/detections.json": "timelines of a split, for the official tools",
    "results/compare.html": "all runs side by side",
    "results/clean/trainval.txt": "train and val as one list",
    "results/videos.ok": "are all videos those of the sheet?",
    "results/annotations.ok": "are all annotations the official ones?",
}
PREDICT_EPILOG = """\
For each video, four files are written: NAME.tsv, NAME.json (also the best classes of every clip),
NAME.vtt (captions for a player) and NAME.activitynet.json; index.html shows all of them. The same
command, run again, keeps what is finished and goes on where it was stopped. How clips are merged:
docs/timeline.md.
"""
# These options of `predict` are keys of the config, with the type to which a typed text is turned.
TIMELINE_OPTIONS = dict.fromkeys(("stride", "window", "smooth", "threshold", "min_seconds"), float)
PREDICT_OPTIONS: dict[str, type] = {
    "device": str,
    "gpus": int,
    "batch_size": int,
    "workers": int,
    "encoder": str,
}


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the options of Snakemake that decide the config: --configfile and --directory."""
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="over config/config.yaml, as given to epic100 run",
    )
    parser.add_argument("--directory", type=Path, default=Path(), help="as given to epic100 run")


def fill_demo(parser: argparse.ArgumentParser) -> None:
    """Add the options of `demo`."""
    parser.usage = "epic100 demo [-h] [--directory DIR] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = "Every other word is Snakemake's own: -n, --cores 4, a target ..."
    parser.add_argument("--directory", default="demo", help="where it is made (default: demo)")
    parser.set_defaults(passes_on=True, run="epic100.cli.workflow:run_demo")


def fill_run(parser: argparse.ArgumentParser) -> None:
    """Set usage and function of `run`. It has no options: its words are Snakemake's or keys."""
    parser.usage = "epic100 run [-h] [TARGET ...] [KEY=VALUE ...] [OPTION OF SNAKEMAKE ...]"
    rows = [f"  {target:30}{meaning}" for target, meaning in TARGETS.items()]
    parser.epilog = RUN_EPILOG.format(targets="\n".join(rows))
    parser.set_defaults(passes_on=True, run="epic100.cli.workflow:run")


def fill_test(parser: argparse.ArgumentParser) -> None:
    """Add the options of `test`."""
    parser.usage = "epic100 test MODEL [--name NAME] [KEY=VALUE ...] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = "A checkpoint of MMAction2 becomes a model file with: epic100 migrate model"
    parser.add_argument("model", metavar="MODEL", type=Path, help="a model file, wherever it is")
    parser.add_argument("--name", help="folder in results/runs (default: the name of the file)")
    parser.set_defaults(passes_on=True, run="epic100.cli.workflow:run_test")


def fill_check(parser: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    parser.epilog = "Exit code 1 where a run could not start. What would run: epic100 run -n"
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="as given to epic100 run")
    add_config(parser)
    parser.add_argument("--profile", help="as given to epic100 run")
    parser.set_defaults(run="epic100.cli.check:run")


def fill_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.add_argument("first", type=Path, metavar="A", help="a file of scores, or a run's folder")
    parser.add_argument("second", type=Path, metavar="B", help="the one that is held against it")
    _add_labels(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")
    parser.set_defaults(run="epic100.cli.compare:run")


def fill_score(parser: argparse.ArgumentParser) -> None:
    """Add the options of `score`."""
    parser.epilog = "Exit code 1, and one line, where the file is not scores of all val segments."
    parser.add_argument(
        "file", type=Path, metavar="FILE", help=".zip, .pt or .pkl (docs/results.md)"
    )
    _add_labels(parser)
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.set_defaults(run="epic100.cli.score:run")


def _add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the annotations with the right classes of val."""
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="CSV",
        help="EPIC_100_validation.csv, with the official lists beside it (default: the config's)",
    )
    add_config(parser)


def fill_adopt(parser: argparse.ArgumentParser) -> None:
    """Add the options of `adopt` (docs/first-day.md)."""
    parser.epilog = "Without a name it lists the models: where their files are, and their metrics."
    parser.add_argument("name", nargs="?", metavar="NAME", help="which published model it is")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="its checkpoint")
    parser.add_argument("--out", type=Path, metavar="PTH", help="the file to write")
    parser.add_argument(
        "--encoder",
        action="store_true",
        help="the encoder alone, as start weights: train: load_from:",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=16,
        metavar="N",
        help="of a clip, with --encoder (default: 16)",
    )
    add_config(parser)
    parser.set_defaults(run="epic100.cli.migrate:adopted")


def fill_migrate(parser: argparse.ArgumentParser) -> None:
    """Add the command `model` of `migrate` (docs/migration.md)."""
    commands = parser.add_subparsers(dest="part", required=True)
    command = commands.add_parser("model", help="an MMAction2 checkpoint -> model.pth")
    command.add_argument("checkpoint", type=Path, metavar="PTH")
    command.add_argument("--num-verbs", type=int, default=97, metavar="N")
    command.add_argument("--num-nouns", type=int, default=300, metavar="N")
    command.add_argument("--pairs", type=Path, metavar="FILE", help="the pair of each output")
    command.add_argument(
        "--train-list",
        type=Path,
        metavar="LIST",
        help="gives the counts, and without --pairs the order too",
    )
    command.add_argument(
        "--order",
        choices=("sorted", "first-seen"),
        default="sorted",
        help="how the pairs of --train-list were numbered",
    )
    command.add_argument(
        "--config", type=Path, metavar="PY", help="MMAction2 config; else the one in the checkpoint"
    )
    command.add_argument("--out", type=Path, required=True, metavar="PTH")
    command.set_defaults(run="epic100.cli.migrate:model")


def fill_predict(parser: argparse.ArgumentParser) -> None:
    """Add the options of `predict`. Keys of the config have the descriptions of the config."""
    from epic100.settings.prediction import PredictSettings, TimelineSettings

    parser.epilog = PREDICT_EPILOG
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files of any format")
    parser.add_argument("--model", required=True, action="append", help="results/model.pth")
    parser.add_argument("--out", default="timeline", help="folder to write (default: timeline)")
    parser.add_argument(
        "--class-lists",
        nargs=2,
        metavar=("VERBS", "NOUNS"),
        help="EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv, for a model without names",
    )
    parser.add_argument(
        "--background",
        metavar="FILE",
        help="results/background.json of the model: leave out where nothing happens",
    )
    sections = (
        ("timeline", TimelineSettings, TIMELINE_OPTIONS),
        ("predict", PredictSettings, PREDICT_OPTIONS),
    )
    for section, settings_type, options in sections:
        for name, option_type in options.items():
            field = settings_type.model_fields[name]
            parser.add_argument(
                "--" + name.replace("_", "-"),
                type=option_type,
                dest=f"{section}.{name}",
                metavar=name.upper(),
                default=field.default,
                help=f"{field.description} (default: %(default)s)",
            )
    parser.set_defaults(run="epic100.cli.predict:run")


def fill_submission(parser: argparse.ArgumentParser) -> None:
    """Add the command `check` of `submission`."""
    commands = parser.add_subparsers(dest="part", required=True)
    command = commands.add_parser("check", help="say what is wrong with a submission")
    command.add_argument("file", type=Path, metavar="FILE", help=".zip, .pt or .pkl")
    group = command.add_mutually_exclusive_group(required=True)
    group.add_argument("--split", choices=("train", "val", "test"), help="as the config has it")
    group.add_argument("--annotations", type=Path, metavar="CSV", help="EPIC_100_*.csv")
    add_config(command)
    command.add_argument("--num-verbs", type=int)
    command.add_argument("--num-nouns", type=int)
    command.add_argument(
        "--allow-prior",
        type=float,
        metavar="SHARE",
        help="share of segments, 0 to 1, that may be without a prediction (default: half of them)",
    )
    command.set_defaults(run="epic100.cli.submission:run")
