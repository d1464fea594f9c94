"""The program `epic100`: its commands, their options, its parser and its exit codes."""

import argparse
import os
import pkgutil
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from epic100.base.errors import EpicError, did_you_mean, import_error
from epic100.base.shipped import ROOT

HELP = """\
From the official CSVs and full-length videos of EPIC-KITCHENS-100 to a trained model and a
submission.

  epic100 demo                      films a mini kitchen in ./demo and runs everything on it
  epic100 check                     whether a run here would come to its end
  epic100 run -n                    what would run here; config/config.yaml names your data
  epic100 run --profile profiles/vsc all     on a cluster
  epic100 adopt                     models that others trained on EPIC-KITCHENS-100
  epic100 test lab/model.pth        its official metrics, in results/runs/model
  epic100 score submission.zip      the same of any file of scores, without a run
  epic100 predict VIDEO --model results/model.pth    a timeline of actions
  epic100 submission check results/submission.zip --split test
"""
COMPLETION = "--print-completion"
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
RUN_EPILOG = """\
targets (a file, or a rule that makes one; without any, `all`):
{}

KEY=VALUE sets a key of the config: train.epochs=3, videos.root=/scratch/videos, run=long
Every other word is Snakemake's own: results/submission.pt, -n, --configfile, --profile ...
A file of config/ or profiles/ that this folder does not have is the one that ships.
""".format("\n".join(f"  {target:30}{meaning}" for target, meaning in TARGETS.items()))
PREDICT_EPILOG = """\
For each video, four files are written: NAME.tsv, NAME.json (also the best classes of every clip),
NAME.vtt (captions for a player) and NAME.activitynet.json; index.html shows all of them. The same
command, run again, keeps what is finished and goes on where it was stopped. How clips are merged:
docs/timeline.md.
"""

# The keys of the config that are options of `predict`, with the type that a typed text gets.
PREDICT_KEYS: dict[str, type] = {
    "timeline.stride": float,
    "timeline.window": float,
    "timeline.smooth": float,
    "timeline.threshold": float,
    "timeline.min_seconds": float,
    "predict.device": str,
    "predict.gpus": int,
    "predict.batch_size": int,
    "predict.workers": int,
    "predict.encoder": str,
}
# The options of a command by name, with the arguments of argparse's `add_argument`.
Options = Mapping[str, Mapping[str, Any]]
# These options of Snakemake decide the config.
CONFIG: Options = {
    "--configfile": dict(
        type=Path, nargs="+", default=[], help="over config/config.yaml, as given to epic100 run"
    ),
    "--directory": dict(type=Path, default=Path(), help="as given to epic100 run"),
}
# These name the annotations with the right classes of val.
LABELS: Options = {
    "--annotations": dict(
        type=Path,
        metavar="CSV",
        help="EPIC_100_validation.csv, with the official lists beside it (default: the config's)",
    ),
    **CONFIG,
}


class Command(NamedTuple):
    """A command of the program.

    Attributes:
        summary: Its line in `--help`.
        run: Its function, which gets the options and returns an exit code. It is named by a text,
            since its module may take seconds to import.
        options: Its options.
        one_of: More options, of which a call must have exactly one.
        part: The word that must follow the name, such as `check` of `submission check`; or "".
        part_summary: The line about this word in `--help`.
        usage: The usage, if it is not the one that argparse writes.
        epilog: The text below the options.
        passes_on: Whether words that the command does not know go to Snakemake.
    """

    summary: str
    run: str
    options: Options
    one_of: Options = {}
    part: str = ""
    part_summary: str = ""
    usage: str | None = None
    epilog: str | None = None
    passes_on: bool = False


COMMANDS = {
    "demo": Command(
        "film a mini kitchen and run everything on it",
        "epic100.cli.workflow:run_demo",
        {"--directory": dict(default="demo", help="where it is made (default: demo)")},
        usage="epic100 demo [-h] [--directory DIR] [OPTION OF SNAKEMAKE ...]",
        epilog="Every other word is Snakemake's own: -n, --cores 4, a target ...",
        passes_on=True,
    ),
    "run": Command(
        "run the workflow in this folder",
        "epic100.cli.workflow:run",
        {},
        usage="epic100 run [-h] [TARGET ...] [KEY=VALUE ...] [OPTION OF SNAKEMAKE ...]",
        epilog=RUN_EPILOG,
        passes_on=True,
    ),
    "test": Command(
        "score a model on the validation split",
        "epic100.cli.workflow:run_test",
        {
            "model": dict(metavar="MODEL", type=Path, help="a model file, wherever it is"),
            "--name": dict(help="folder in results/runs (default: the name of the file)"),
        },
        usage="epic100 test MODEL [--name NAME] [KEY=VALUE ...] [OPTION OF SNAKEMAKE ...]",
        epilog="A checkpoint of MMAction2 becomes a model file with: epic100 migrate model",
        passes_on=True,
    ),
    "score": Command(
        "say the official metrics of any model's scores",
        "epic100.cli.score:score",
        {
            "file": dict(type=Path, metavar="FILE", help=".zip, .pt or .pkl (docs/results.md)"),
            **LABELS,
            "--json": dict(action="store_true", help="print the metrics as JSON"),
        },
        epilog="Exit code 1, and one line, where the file is not scores of all val segments.",
    ),
    "check": Command(
        "say whether a run in this folder would come to its end",
        "epic100.cli.check:run",
        {
            "keys": dict(nargs="*", metavar="KEY=VALUE", help="as given to epic100 run"),
            **CONFIG,
            "--profile": dict(help="as given to epic100 run"),
        },
        epilog="Exit code 1 where a run could not start. What would run: epic100 run -n",
    ),
    "predict": Command(
        "see what a model sees in complete videos",
        "epic100.cli.predict:run",
        {
            "videos": dict(nargs="+", metavar="VIDEO", help="video files of any format"),
            "--model": dict(required=True, action="append", help="results/model.pth"),
            "--out": dict(default="timeline", help="folder to write (default: timeline)"),
            "--class-lists": dict(
                nargs=2,
                metavar=("VERBS", "NOUNS"),
                help="EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv, for a model without "
                "names",
            ),
            "--background": dict(
                metavar="FILE",
                help="results/background.json of the model: leave out where nothing happens",
            ),
        },
        epilog=PREDICT_EPILOG,
    ),
    "adopt": Command(
        "take over a model trained on EPIC-KITCHENS-100",
        "epic100.cli.adopt:run",
        {
            "name": dict(nargs="?", metavar="NAME", help="which published model it is"),
            "file": dict(nargs="?", type=Path, metavar="FILE", help="its checkpoint"),
            "--out": dict(type=Path, metavar="PTH", help="the file to write"),
            "--encoder": dict(
                action="store_true", help="the encoder alone, as start weights: train: load_from:"
            ),
            "--frames": dict(
                type=int, default=16, metavar="N", help="of a clip, with --encoder (default: 16)"
            ),
            **CONFIG,
        },
        epilog="Without a name it lists the models: where their files are, and their metrics.",
    ),
    "migrate": Command(
        "bring a lab's lists and checkpoint along",
        "epic100.cli.lab_checkpoint:run",
        {
            "checkpoint": dict(type=Path, metavar="PTH"),
            "--num-verbs": dict(type=int, default=97, metavar="N"),
            "--num-nouns": dict(type=int, default=300, metavar="N"),
            "--pairs": dict(type=Path, metavar="FILE", help="the pair of each output"),
            "--train-list": dict(
                type=Path,
                metavar="LIST",
                help="gives the counts, and without --pairs the order too",
            ),
            "--order": dict(
                choices=("sorted", "first-seen"),
                default="sorted",
                help="how the pairs of --train-list were numbered",
            ),
            "--config": dict(
                type=Path, metavar="PY", help="MMAction2 config; else the one in the checkpoint"
            ),
            "--out": dict(type=Path, required=True, metavar="PTH"),
        },
        part="model",
        part_summary="an MMAction2 checkpoint -> model.pth",
    ),
    "submission": Command(
        "check a submission before it is sent",
        "epic100.cli.score:check_submission",
        {
            "file": dict(type=Path, metavar="FILE", help=".zip, .pt or .pkl"),
            **CONFIG,
            "--num-verbs": dict(type=int),
            "--num-nouns": dict(type=int),
            "--allow-prior": dict(
                type=float,
                metavar="SHARE",
                help="share of segments, 0 to 1, that may be without a prediction (default: half "
                "of them)",
            ),
        },
        one_of={
            "--split": dict(choices=("train", "val", "test"), help="as the config has it"),
            "--annotations": dict(type=Path, metavar="CSV", help="EPIC_100_*.csv"),
        },
        part="check",
        part_summary="say what is wrong with a submission",
    ),
    "compare": Command(
        "say whether one model is better than another",
        "epic100.cli.score:compare",
        {
            "first": dict(type=Path, metavar="A", help="a file of scores, or a run's folder"),
            "second": dict(type=Path, metavar="B", help="the one that is held against it"),
            **LABELS,
            "--seed": dict(type=int, default=0, help="of the resampling (default: 0)"),
        },
    ),
}
# These were commands of earlier versions, with what to do now.
GONE = {
    "publish": "upload results/model.pth with results/model_card.md as README.md (docs/results.md)"
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `epic100`; None takes the words of this process.

    Returns:
        The exit code: 0; 1 if the input is wrong, after a line on stderr for each mistake; or that
        of Snakemake.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser, commands = build_parser(arguments)
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise EpicError(_no_command(arguments[0]))
        options, unknown = parser.parse_known_args(arguments)
        command = COMMANDS[options.command]
        if unknown and not command.passes_on:
            # The usage names all long options of the command.
            known = re.findall(r"--[\w-]+", commands[options.command].format_usage())
            meant = did_you_mean(unknown[0], known)
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        if os.environ.get("PYTHONPATH"):  # Modules of a cluster may have a NumPy of another Python.
            pkgutil.resolve_name("numpy")
        options.rest = unknown
        code: int = pkgutil.resolve_name(command.run)(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ImportError as error:
        print("error:", import_error(error), file=sys.stderr)
    except EpicError as error:
        for line in str(error).splitlines():
            print("error:", line, file=sys.stderr)
    return 1


def _no_command(word: str) -> str:
    """Write the message about a word that is no command, with what to type in its place."""
    if word in GONE:
        return f"{word}: this command is gone; {GONE[word]}"
    rules = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("rules/*.smk"))
    if "/" in word or word == "all" or re.search(rf"(?m)^ *rule {re.escape(word)}:", rules):
        return f"{word}: no command but a target of the workflow; expected epic100 run {word}"
    if "=" in word:
        return f"{word}: no command but a key of the config; expected epic100 run {word}"
    hint = did_you_mean(word, COMMANDS, "epic100 {}") or "; `epic100 --help` lists them"
    return f"{word}: no such command{hint}"


def build_parser(
    arguments: Sequence[str],
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Build the parser of the program and the parsers of its commands, by name.

    Args:
        arguments: Words after `epic100`. Only the command that they name gets its options, or all
            commands if a completion script is requested.
    """
    parser = argparse.ArgumentParser(
        prog="epic100",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"epic100 {version('epic100')}")
    # Snakemake imports this module for `COMMANDS`, also in an environment without this package.
    import shtab

    shtab.add_argument_to(parser, [COMPLETION], help="print a script of completions for your shell")
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        required=True,
        parser_class=argparse.ArgumentParser,
    )
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary.capitalize() + ".",
            usage=command.usage,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name in arguments[:1] or COMPLETION in arguments:
            _add_options(of_command, command)
            if name == "predict":
                _add_keys(of_command)
    return parser, commands.choices


def _add_options(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add the options of a command to its parser, or to the parser of its part."""
    if command.part:
        parts = parser.add_subparsers(dest="part", required=True)
        parser = parts.add_parser(command.part, help=command.part_summary)
    for name, settings in command.options.items():
        parser.add_argument(name, **settings)
    if command.one_of:
        group = parser.add_mutually_exclusive_group(required=True)
        for name, settings in command.one_of.items():
            group.add_argument(name, **settings)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the options of `predict` that are keys of the config, as the config describes them."""
    # This import takes a third of a second, and only `predict` needs it.
    from epic100.settings.prediction import PredictSettings, TimelineSettings
    from epic100.settings.section import Section

    sections: dict[str, type[Section]] = {
        "predict": PredictSettings,
        "timeline": TimelineSettings,
    }
    for key, option_type in PREDICT_KEYS.items():
        section, name = key.split(".")
        field = sections[section].fields_by_key()[name]
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=option_type,
            dest=key,
            metavar=name.upper(),
            default=field.default,
            help=f"{field.description} (default: %(default)s)",
        )


def run_and_exit() -> NoReturn:
    """Run the installed command `epic100`."""
    sys.exit(main())
