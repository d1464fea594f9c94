"""This checkout, and how a user calls it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"verbs": 97, "nouns": 300}


def run_snakemake(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the workflow as a user would; stdout and stderr come back as text."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1500)
