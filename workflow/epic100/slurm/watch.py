"""A thread beside a running workflow that keeps its record fresh and shows the wrappers' notes.

Notes are lines that the wrappers write to a file.
"""

import os
import threading
import time
from pathlib import Path

from epic100.slurm import record
from epic100.slurm.record import Show

NOTES = "EPIC100_SLURM_NOTES"  # variable: the file's path
NOTES_FILE = Path(".snakemake/epic100-slurm.log")
LOOK_SECONDS = 2.0


def note(text: str) -> None:
    """Append a line for the user who watches the workflow."""
    if path := os.environ.get(NOTES):
        with open(path, "a", encoding="utf-8") as notes:
            notes.write(f"{text}\n")


class Watch(threading.Thread):
    """A thread that ends with the process.

    Args:
        folder: The working directory.
        show: Gets each line that a wrapper notes.
    """

    def __init__(self, folder: Path, show: Show):
        super().__init__(daemon=True)
        self._folder, self._show = folder, show
        self._notes = folder / NOTES_FILE
        self._notes.parent.mkdir(exist_ok=True)
        self._notes.touch()
        self._read = self._notes.stat().st_size
        self._lock = threading.Lock()
        os.environ[NOTES] = str(self._notes.resolve())

    def run(self) -> None:
        """Read the notes every two seconds, and touch the record twice a minute."""
        touched = 0.0
        while True:
            self.show_notes()
            if time.monotonic() - touched > record.TOUCH_SECONDS:
                record.touch(self._folder)
                touched = time.monotonic()
            time.sleep(LOOK_SECONDS)

    def show_notes(self) -> None:
        """Show the notes that are new since the last call."""
        with self._lock, self._notes.open(encoding="utf-8") as notes:
            notes.seek(self._read)
            lines = notes.readlines()
            self._read = notes.tell()
        for line in lines:
            self._show(line.rstrip("\n"))
