"""Names of the classes, from the official class lists if given, else from the annotations."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping

from epic100.base.errors import EpicError
from epic100.base.names import printable, whole_number
from epic100.base.text_table import read_table
from epic100.segments.official_lists import CLASS_LISTS

TASKS = ("verb", "noun")


class ClassNames:
    """Class names by id. A class without a name is shown by its number."""

    def __init__(self, names: Mapping[str, Mapping[int, str]]):
        self._names = names

    @property
    def by_task(self) -> dict[str, dict[int, str]]:
        """The names by class id, of each task that has some, as a model file carries them."""
        return {task: dict(names) for task, names in self._names.items() if names}

    def __call__(self, task: str, class_id: int) -> str:
        """Return the name of a `verb` or `noun` class."""
        return printable(self._names.get(task, {}).get(class_id, f"{task} {class_id}"))


def read_class_names(
    csvs: Iterable[str | os.PathLike], lists: Mapping[str, str] | None = None
) -> ClassNames:
    """Read the names of the verb and noun classes.

    Without a list, a class gets the word that annotators used most often for it, in the columns
    `verb` and `noun` of `csvs`.

    Args:
        csvs: Annotation files. Those without these columns (the test timestamps, a lab's list) are
            ignored.
        lists: Paths of class lists by the keys of `official_lists.CLASS_LISTS`.

    Raises:
        EpicError: An id in a list is not a number. The error names file and line.
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
