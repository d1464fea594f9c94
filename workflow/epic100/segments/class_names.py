"""The words for class ids: from the official class lists where given, else from the annotations."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping

from epic100.base.errors import EpicError
from epic100.base.names import printable, whole_number
from epic100.base.text_table import read_table
from epic100.segments.official_lists import CLASS_LISTS

TASKS = ("verb", "noun")


class ClassNames:
    """Names by class id; an id without one is called by its number."""

    def __init__(self, names: Mapping[str, Mapping[int, str]]):
        self._names = names

    def __call__(self, task: str, class_id: int) -> str:
        """The name of a `verb` or `noun` class."""
        return printable(self._names[task].get(class_id, f"{task} {class_id}"))


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
        number = whole_number(row["id"])
        if number is None:
            raise EpicError(f"{path}: line {line}: id is {row['id']!r}; expected a class id")
        names[number] = row["key"]
    return names


def _narrated(csvs: list, task: str) -> dict[int, str]:
    about = "an official EPIC-KITCHENS-100 CSV (`annotations:` in the config)"
    counts: Counter[tuple[int, str]] = Counter()
    for path in csvs:
        for _, row in read_table(path, (), about=about, delimiter=","):
            number = whole_number(row.get(f"{task}_class", "").removesuffix(".0"))
            if number is not None and row.get(task):
                counts[number, row[task]] += 1
    names: dict[int, str] = {}
    for (number, word), _ in counts.most_common():
        names.setdefault(number, word)
    return names
