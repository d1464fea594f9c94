"""Mistakes in a config in plain words, with the file and line that YAML knows."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from epic100.settings.section import Section, section_of

Place = Sequence[str | int]


def known_and_meant(name: str, known: Iterable[str]) -> str:
    """What an unknown name may stand for, and the names that are known."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, 1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"{meant} (known here: {', '.join(known)})"


def words_of(error: Mapping[str, Any], model: type[Section]) -> str:
    """One sentence that names the key, what it is and what was expected.

    Args:
        error: One of pydantic's `errors()`.
        model: What was validated.
    """
    place, value = error["loc"], error["input"]
    where = ".".join(map(str, place))
    if error["type"] == "extra_forbidden":
        field = _field_at(model, place[:-1])
        section = (field and section_of(field)) or model
        return f"unknown key {where!r}{known_and_meant(place[-1], section.fields_by_key())}"
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and (not place or isinstance(value, Mapping)):
        return said if not place or said.startswith("`") else f"{where}: {said}"
    said = said.removeprefix("Input should be ").removeprefix("a valid ")
    if error["type"] == "model_type":
        said = "keys with values"
    field = _field_at(model, place)
    meaning = f" ({field.description})" if field and field.description else ""
    expected = said if said.startswith("expected") else f"expected {said}"
    return f"{where or 'top level'} is {value!r}; {expected}{meaning}"


def place_in_files(place: Place, files: Sequence[str | os.PathLike]) -> str:
    """Where a key is written: `FILE:LINE: `, or "" if none of the files has it.

    Args:
        place: Names from the top level down; what a file lacks at the end is left out.
        files: YAML files; later ones override earlier ones.
    """
    for file in reversed(files):
        try:
            node = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        line = None
        for part in place:
            if not isinstance(node, yaml.MappingNode):
                break
            found = [pair for pair in node.value if pair[0].value == str(part)]
            if not found:
                break
            name, node = found[-1]
            line = name.start_mark.line + 1
        if line is not None:
            return f"{file}:{line}: "
    return ""


def without(config: Mapping[Any, Any], places: Iterable[Place]) -> dict[Any, Any]:
    """A copy of a config without what is at these places."""
    kept = dict(config)
    for first, *rest in filter(None, map(list, places)):
        if rest and isinstance(kept.get(first), Mapping):
            kept[first] = without(kept[first], [rest])
        else:
            kept.pop(first, None)
    return kept


def _field_at(model: type[Section], place: Place) -> FieldInfo | None:
    """The key that a place is in or below; None at the top level."""
    field: FieldInfo | None = None
    section: type[Section] | None = model
    for part in place:
        found = section.fields_by_key().get(str(part)) if section else None
        if found is None:
            break
        field, section = found, section_of(found)
    return field
