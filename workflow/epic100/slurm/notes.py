"""Lines that wrappers write to a file, for the workflow to show."""

import os

NOTES = "EPIC100_SLURM_NOTES"  # variable: the file's path


def note(text: str) -> None:
    """Add a line for the people who look at the workflow."""
    if path := os.environ.get(NOTES):
        with open(path, "a", encoding="utf-8") as notes:
            notes.write(f"{text}\n")
