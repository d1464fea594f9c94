"""Read the official lists: tail classes, unseen participants, and the names of the classes."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from epic100.base.errors import NAME, printable, whole_number
from epic100.base.text_table import read_own_table, read_table

DATA_SET = "EPIC-KITCHENS-100"
TASKS = ("verb", "noun")
OWNER = "participant_id"
# Each key of the config has a file name and the one column of that file. The list of unseen
# participants is about the validation split.
LISTS = {
    "tail_verbs": ("EPIC_100_tail_verbs.csv", "verb"),
    "tail_nouns": ("EPIC_100_tail_nouns.csv", "noun"),
    "unseen_participants": ("EPIC_100_unseen_participant_ids_validation.csv", OWNER),
}
# Each key has a file name and the column with the class names, which the report's plots use.
CLASS_LISTS = {
    "verb_classes": ("EPIC_100_verb_classes.csv", "key"),
    "noun_classes": ("EPIC_100_noun_classes.csv", "key"),
}


def find_lists(
    annotations: str | os.PathLike,
    named: dict[str, str | None],
    to_be_made: bool = False,
    lists: Mapping[str, tuple[str, str]] = LISTS,
) -> dict[str, str]:
    """Find the official lists: the files that the config names, or else files in the CSV's folder.

    Args:
        annotations: An official CSV of segments. The lists are searched in its folder.
        named: The paths in the config, by the keys of `lists`.
        to_be_made: Assume that files in the CSV's folder will exist; otherwise they must exist now.
        lists: File name and column by key, such as `LISTS` or `CLASS_LISTS`.

    Returns:
        Paths by key, without the lists that were not found.
    """
    paths = {}
    for key, (official_name, _) in lists.items():
        official_path = Path(annotations).parent / official_name
        if named_path := named.get(key):
            paths[key] = named_path
        elif to_be_made or official_path.exists():
            paths[key] = official_path.as_posix()
    return paths


def read_lists(paths: Mapping[str, str]) -> dict[str, list]:
    """Read the official lists, as `read_list` does, by the keys of `LISTS`.

    Args:
        paths: The paths by key. A list without a path is empty; other keys are ignored.
    """
    return {key: read_list(paths[key], key) if key in paths else [] for key in LISTS}


def read_list(path: str | os.PathLike, key: str) -> list:
    """Read an official list of tail classes or of unseen participants.

    Args:
        path: The CSV.
        key: A key of `LISTS`.

    Returns:
        Class ids (int) or participant ids (str), in the file's order.

    Raises:
        EpicError: A value is wrong. The error names file, line and column.
    """
    name, column = LISTS[key]
    has_classes = column != OWNER
    value_name = "a class id" if has_classes else "a participant id"
    about = f"{value_name}, of {name} with the column {column} (`evaluate: {key}:` in the config)"
    parse = class_id if has_classes else _participant_id
    rows = read_own_table(path, {column: parse}, about=about, delimiter=",")
    return [row[column] for row in rows]


class ClassNames:
    """The names of verb and noun classes. A class without a name is called `verb 3`.

    Args:
        names: The names by class id, for each task, `verb` and `noun`.
    """

    def __init__(self, names: Mapping[str, Mapping[int, str]]):
        self._names = names

    @property
    def by_task(self) -> dict[str, dict[int, str]]:
        """The names by class id, for each task that has names, as model files hold them."""
        return {task: dict(names) for task, names in self._names.items() if names}

    def __call__(self, task: str, class_id: int) -> str:
        """Return the name of a class; `task` is `verb` or `noun`."""
        return printable(self._names.get(task, {}).get(class_id, f"{task} {class_id}"))


def read_class_names(
    csvs: Collection[str | os.PathLike], lists: Mapping[str, str] | None = None
) -> ClassNames:
    """Read the names of the verb and noun classes from their official lists or from annotations.

    Without a list, a class gets the word that annotators used most often for it, in the columns
    `verb` and `noun` of `csvs`.

    Args:
        csvs: Annotation files. Those without these columns (the test timestamps) are ignored.
        lists: Paths of class lists by the keys of `CLASS_LISTS`.

    Raises:
        EpicError: An id in a list is not a number. The error names file and line.
    """
    lists = lists or {}
    names = {}
    for task in TASKS:
        key = f"{task}_classes"
        has_list = key in lists
        names[task] = read_class_list(lists[key], key) if has_list else _narrated_names(csvs, task)
    return ClassNames(names)


def read_class_list(path: str | os.PathLike, key: str) -> dict[int, str]:
    """Read an official list of class names.

    Args:
        path: The CSV.
        key: A key of `CLASS_LISTS`.

    Returns:
        The names by class id.

    Raises:
        EpicError: An id is not a number. The error names file, line and column.
    """
    official_name, name_column = CLASS_LISTS[key]
    columns: dict[str, Callable[[str], Any]] = {"id": class_id, name_column: str}
    about = (
        f"{official_name} with the columns {', '.join(columns)} (`evaluate: {key}:` in the config)"
    )
    rows = read_own_table(path, columns, about=about, delimiter=",")
    return {row["id"]: row[name_column] for row in rows}


def _narrated_names(csvs: Collection[str | os.PathLike], task: str) -> dict[int, str]:
    """Name each class of a task by the word that annotators used most often for it."""
    about = "an official EPIC-KITCHENS-100 CSV (`annotations:` in the config)"
    counts: Counter[tuple[int, str]] = Counter()
    for path in csvs:
        for _, row in read_table(path, (), about=about, delimiter=","):
            # A file without this column has no names. Some spreadsheets write class 3 as 3.0.
            number = whole_number(row.get(f"{task}_class", "").removesuffix(".0"))
            if number is not None and row.get(task):
                counts[number, row[task]] += 1
    names: dict[int, str] = {}
    # The most frequent words come first, and `setdefault` keeps the first word of each class.
    for (number, word), _ in counts.most_common():
        names.setdefault(number, word)
    return names


def class_id(text: str) -> int:
    """Parse the number of a class. Raises ValueError for any other text."""
    if (number := whole_number(text)) is None:
        raise ValueError("no class id")
    return number


def _participant_id(text: str) -> str:
    """Return the text if it can be a participant id. Raises ValueError for any other text."""
    if not NAME.fullmatch(text):
        raise ValueError("no participant id")
    return text
