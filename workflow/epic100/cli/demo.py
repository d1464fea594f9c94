"""`epic100 demo`: the whole workflow on a mini kitchen, whose videos the workflow makes itself."""

import argparse

from epic100.base.shipped import ROOT
from epic100.cli.snakemake_call import replace_this_process, snakemake_command, with_screen


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.usage = "epic100 demo [-h] [--directory DIR] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = "Every other word is Snakemake's own: -n, --cores 4, a target ..."
    parser.add_argument("--directory", default="demo", help="where it is made (default: demo)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replace this process by Snakemake on the demo's config."""
    config = ["--configfile", str(ROOT / "config/demo.yaml")]
    words = [*config, "--directory", options.directory, *with_screen(options.rest)]
    return replace_this_process(snakemake_command(words))
