"""The official lists of tail classes, unseen participants and class names, and how to read them."""

import os
from collections.abc import Mapping
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.names import is_name, whole_number
from epic100.base.text_table import read_table

# File name and its one column, by config key. The unseen list is of the validation split.
LISTS = {
    "tail_verbs": ("EPIC_100_tail_verbs.csv", "verb"),
    "tail_nouns": ("EPIC_100_tail_nouns.csv", "noun"),
    "unseen_participants": ("EPIC_100_unseen_participant_ids_validation.csv", "participant_id"),
}
# File name and the column with the class names, which the report's figures use.
CLASS_LISTS = {
    "verb_classes": ("EPIC_100_verb_classes.csv", "key"),
    "noun_classes": ("EPIC_100_noun_classes.csv", "key"),
}


def find_lists(
    val_csv: str | os.PathLike,
    named: dict[str, str | None],
    to_be_made: bool = False,
    lists: Mapping[str, tuple[str, str]] = LISTS,
) -> dict[str, str]:
    """Find the official lists: a path of the config, else the official name beside the val CSV.

    Args:
        val_csv: The validation CSV.
        named: The config's paths by the keys of `lists`.
        to_be_made: Assume that files beside the CSV will exist; otherwise they must exist now.
        lists: File name and column by key, such as `LISTS` or `CLASS_LISTS`.

    Returns:
        Paths by key, without the lists that were not found.
    """
    found = {}
    for key, (name, _) in lists.items():
        beside = Path(val_csv).parent / name
        if chosen := named.get(key):
            found[key] = chosen
        elif to_be_made or beside.is_file():
            found[key] = beside.as_posix()
    return found


def read_list(path: str | os.PathLike, key: str) -> list:
    """Read one official list.

    Args:
        path: The CSV.
        key: A key of `LISTS`.

    Returns:
        Class ids (int) or participant ids (str), in the file's order.

    Raises:
        EpicError: A value is wrong. The error names file, line and column.
    """
    name, column = LISTS[key]
    about = f"{name} with the column {column} (`evaluate: {key}:` in the config)"
    values: list = []
    for line, row in read_table(path, (column,), about=about, delimiter=","):
        value: str | int | None
        if key == "unseen_participants":
            value, kind = row[column] if is_name(row[column]) else None, "a participant id"
        else:
            value, kind = whole_number(row[column]), "a class id"
        if value is None:
            raise EpicError(f"{path}: line {line}: {column} is {row[column]!r}; expected {kind}")
        values.append(value)
    return values
