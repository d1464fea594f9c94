"""Read tables as any program does, without the library. No test is here."""

import csv
from pathlib import Path


def rows_of(path: Path, delimiter: str = "\t") -> list[dict[str, str]]:
    """Read the rows of a table, each as texts by column."""
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter=delimiter))
