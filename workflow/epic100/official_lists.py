"""The official lists behind the tail and unseen figures: where they are and what they hold."""

import csv
import os
from pathlib import Path

from epic100.errors import EpicError

# File name and its one column, by config key. The unseen list is that of the validation split.
LISTS = {
    "tail_verbs": ("EPIC_100_tail_verbs.csv", "verb"),
    "tail_nouns": ("EPIC_100_tail_nouns.csv", "noun"),
    "unseen_participants": ("EPIC_100_unseen_participant_ids_validation.csv", "participant_id"),
}


def find_lists(
    val_csv: str | os.PathLike, named: dict[str, str | None], to_be_made: bool = False
) -> dict[str, str]:
    """Paths by the keys of `LISTS`: as the config names them, else the official names beside the
    validation CSV, if they are there or `to_be_made`."""
    found = {}
    for key, (name, _) in LISTS.items():
        beside = Path(val_csv).parent / name
        if named.get(key):
            found[key] = named[key]
        elif to_be_made or beside.is_file():
            found[key] = beside.as_posix()
    return found


def read_list(path: str | os.PathLike, key: str) -> list:
    """The values of one official list: class ids, or participant ids."""
    column = LISTS[key][1]
    if not Path(path).is_file():
        raise EpicError(f"{path}: no such file; `evaluate: {key}:` names a CSV of {column}s")
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    try:
        values = [row[column] for row in rows]
        return values if key == "unseen_participants" else [int(value) for value in values]
    except (KeyError, ValueError) as error:
        raise EpicError(f"{path}: expected a CSV with the one column {column!r}") from error
