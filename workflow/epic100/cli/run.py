"""`epic100 run`: run Snakemake on this workflow, in the current folder."""

import argparse

from epic100.cli.snakemake_call import replace_this_process, snakemake_command, with_screen

EPILOG = """\
Every other word is Snakemake's own: results/submission.pt, -n, --configfile, --profile ...
A file of config/ or profiles/ that this folder does not have is the one that ships.
"""


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.usage = "epic100 run [-h] [TARGET ...] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replace this process by Snakemake with the given arguments."""
    return replace_this_process(snakemake_command(with_screen(options.rest)))
