"""Tables as any program reads them, whatever the library makes of them. No test in here."""

import csv
from pathlib import Path


def rows_of(path: Path, delimiter: str = "\t") -> list[dict[str, str]]:
    """The rows of a table."""
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter=delimiter))
