"""The folder of this checkout, calls of its programs as a user makes them, and tables to read."""

import csv
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from support import preloaded

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"verbs": 97, "nouns": 300}
SHORT_DEMO = ("config/demo.yaml", "tests/support/short_demo.yaml")


def lacks(words: str) -> None:
    """Skip a test because something is not installed; in CI, where nothing may be skipped, fail."""
    if os.environ.get("EPIC100_NO_SKIPS"):
        pytest.fail(words)
    pytest.skip(words)


def said(done: subprocess.CompletedProcess) -> str:
    """Return all output of a process: a dry run writes to stdout, a real run to stderr."""
    return done.stdout + done.stderr


def ended(done: subprocess.CompletedProcess, well: bool | None = True):
    """Check that a process ended well, badly (`well=False`) or in any way (None), and return it."""
    assert well is None or (done.returncode == 0) is well, said(done)[-5000:]
    return done


def call(*words: object, well: bool | None = True, cwd: Path = ROOT, **options):
    """Run a program and check its end as `ended` does; stdout and stderr come back as text."""
    command = list(map(str, words))
    return ended(subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options), well)


def python(*words: object, **how):
    """Run `python words...` in a new process, as `call` does."""
    return call(sys.executable, *words, **how)


def run_snakemake(*arguments: str, cwd: Path = ROOT, well: bool | None = True):
    """Run the workflow as a user would, and check its end as `ended` does."""
    return ended(preloaded.run("-m", "snakemake", *arguments, cwd=cwd, timeout=1500), well)


def epic100(*words: object, cwd: Path = ROOT, well: bool | None = True):
    """Run `epic100 words...` as a user would, and check its end as `ended` does."""
    return ended(preloaded.run("-m", "epic100", *map(str, words), cwd=cwd, timeout=1500), well)


def without_the_clone() -> dict[str, str]:
    """Return the environment variables without those that name this checkout or environment."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "EPIC100_ROOT")
    others = {name: value for name, value in os.environ.items() if name not in ours}
    programs = Path(sys.executable).parent
    path = [folder for folder in others["PATH"].split(os.pathsep) if Path(folder) != programs]
    return others | {"PATH": os.pathsep.join(path)}


needs_decord = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="no decord for this platform"
)


def rows_of(path: Path, delimiter: str = "\t") -> list[dict[str, str]]:
    """Read the rows of a table, each as texts by column."""
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter=delimiter))
