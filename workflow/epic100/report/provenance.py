"""results/provenance.html: Snakemake's own report of a run, written from within the run."""

import getpass
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT
from epic100.report.tidy import tidy

log = logging.getLogger(__name__)


def write_provenance(
    targets: Sequence[str],
    out: str | os.PathLike,
    *,
    snakefile: str,
    config: dict,
) -> None:
    """Write Snakemake's report on finished targets as one HTML file, cleaned by `tidy`.

    A second Snakemake reads the metadata of the first, under exactly the same config. It uses
    `--nolock`, since the first one holds the lock.

    Args:
        targets: The results to show.
        out: The HTML file.
        snakefile: The Snakefile of the run.
        config: The complete config of the run.

    Raises:
        EpicError: Snakemake fails; its output is logged, and its last line is in the message.
    """
    with (
        tempfile.NamedTemporaryFile("w", suffix=".yaml") as configfile,
        atomic_path(out) as temporary,
    ):
        yaml.safe_dump(config, configfile)
        configfile.flush()
        command = [sys.executable, "-P", "-m", "snakemake", *targets, "--snakefile", snakefile]
        command += ["--configfile", configfile.name, "--report", str(temporary), "--nolock"]
        command += ["--profile", "none", "--workflow-profile", "none", "--cores", "1"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            log.info(said)
            last = said.rpartition("\n")[2] or "nothing"
            raise EpicError(
                f"{out}: not written: Snakemake ended with code {done.returncode}; its last "
                f"words, after those above: {last}"
            )
        page = temporary.read_text(encoding="utf-8")
        page = tidy(page, [Path.cwd(), ROOT], getpass.getuser())
        temporary.write_text(page, encoding="utf-8")
        size = Path(temporary).stat().st_size / 2**20
    log.info(f"{out}: {size:.1f} MiB, opens in any browser without a network")
