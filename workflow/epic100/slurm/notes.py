"""Notes: lines that the wrappers write to a file and that the workflow shows."""

import os

NOTES = "EPIC100_SLURM_NOTES"  # variable: the file's path


def note(text: str) -> None:
    """Append a line for the user who watches the workflow."""
    if path := os.environ.get(NOTES):
        with open(path, "a", encoding="utf-8") as notes:
            notes.write(f"{text}\n")
