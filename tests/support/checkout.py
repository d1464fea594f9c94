"""This checkout, and how a user calls it."""

import subprocess
from pathlib import Path

from support import preloaded

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"verbs": 97, "nouns": 300}


def run_snakemake(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the workflow as a user would; stdout and stderr come back as text."""
    return preloaded.run("-m", "snakemake", *arguments, cwd=cwd, timeout=1500)
