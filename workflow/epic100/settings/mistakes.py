"""Mistakes in a config in plain words, with the file and line that YAML knows."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from epic100.settings.section import Section

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
        section = _section_at(model, place[:-1])
        names = [field.alias or name for name, field in section.model_fields.items()]
        return f"unknown key {where!r}{known_and_meant(place[-1], names)}"
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
            found = (
                [(k, v) for k, v in getattr(node, "value", ()) if k.value == str(part)]
                if (isinstance(node, yaml.MappingNode))
                else []
            )
            if not found:
                break
            line, node = found[-1][0].start_mark.line + 1, found[-1][1]
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


def _section_at(model: type[Section], place: Place) -> type[Section]:
    for part in place:
        field = _field_at(model, [part])
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next(k for k in kinds if isinstance(k, type) and issubclass(k, Section))
    return model


def _field_at(model: type[Section], place: Place) -> FieldInfo | None:
    """The key that a place is in or below; None at the top level."""
    field = None
    for part in place:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part not in fields:
            break
        field = fields[str(part)]
        kinds = (field.annotation, *get_args(field.annotation))
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, Section)), Section)
    return field
