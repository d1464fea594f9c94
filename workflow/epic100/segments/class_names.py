"""The words for class ids: from the official class lists where given, else from the annotations."""

import os
from collections.abc import Iterable, Mapping

import pandas as pd

from epic100.base.errors import EpicError
from epic100.base.text_table import read_table
from epic100.segments.official_lists import CLASS_LISTS

TASKS = ("verb", "noun")


class ClassNames:
    """Names by class id; an id without one is called by its number."""

    def __init__(self, names: Mapping[str, Mapping[int, str]]):
        self._names = names

    def __call__(self, task: str, class_id: int) -> str:
        """The name of a `verb` or `noun` class."""
        return self._names[task].get(class_id, f"{task} {class_id}")


def read_class_names(
    csvs: Iterable[str | os.PathLike], lists: Mapping[str, str] | None = None
) -> ClassNames:
    """Names of verb and noun classes.

    `lists`: paths by the keys of `official_lists.CLASS_LISTS`. A task without a list is named by
    the words that annotators used most for each class in the columns `verb` and `noun` of `csvs`;
    files without these columns (the test timestamps, a lab's list) add nothing. Raises EpicError
    naming file and line for an id that is no number.
    """
    lists, csvs, names = lists or {}, list(csvs), {}
    for task in TASKS:
        key = f"{task}_classes"
        names[task] = _listed(lists[key], key) if key in lists else _narrated(csvs, task)
    return ClassNames(names)


def _listed(path: str, key: str) -> dict[int, str]:
    about = f"{CLASS_LISTS[key][0]} with the columns id, key (`evaluate: {key}:` in the config)"
    names = {}
    for line, row in read_table(path, ("id", "key"), about=about, delimiter=","):
        if not (row["id"].isascii() and row["id"].isdigit()):
            raise EpicError(f"{path}: line {line}: id is {row['id']!r}; expected a class id")
        names[int(row["id"])] = row["key"]
    return names


def _narrated(csvs: list, task: str) -> dict[int, str]:
    wanted = [task, f"{task}_class"]
    tables = []
    for path in csvs:
        table = pd.read_csv(path, usecols=lambda name: name in wanted, dtype=str)
        if set(wanted) == set(table.columns):
            tables.append(table.dropna())
    if not tables:
        return {}
    counts = pd.concat(tables).value_counts().reset_index()  # most frequent first
    first = counts.drop_duplicates(wanted[1])
    return dict(zip(first[wanted[1]].astype(int), first[task], strict=True))
