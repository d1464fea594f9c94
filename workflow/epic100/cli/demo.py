"""`epic100 demo`: the whole workflow on a mini kitchen that it films itself."""

import argparse
import subprocess
from pathlib import Path

from epic100.base.shipped import ROOT
from epic100.cli.snakemake_call import snakemake_command


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser.usage = "epic100 demo [-h] [--directory DIR] [OPTION OF SNAKEMAKE ...]"
    parser.epilog = "Every other word is Snakemake's own: -n, --cores 4, a target ..."
    parser.add_argument("--directory", default="demo", help="where it is made (default: demo)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run Snakemake on the demo's config, and show the summary of a run that went well."""
    folder = Path(options.directory)
    command = snakemake_command(
        ["--directory", str(folder), "--configfile", str(ROOT / "config/demo.yaml")]
    )
    summary = folder / "results/summary.txt"
    before = _edition(summary)
    with subprocess.Popen([*command, "--quiet", "rules", *options.rest]) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue  # Snakemake has it too, ends its jobs and says so
    if process.returncode == 0 and _edition(summary) not in (None, before):
        print(f"\n{summary.read_text(encoding='utf-8')}", end="")
    return process.returncode


def _edition(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None
