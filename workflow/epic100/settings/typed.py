"""Read KEY=VALUE of a command line: the value of a key that takes text stays, others are YAML."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin
from urllib.parse import quote

import yaml

from epic100.base.errors import EpicError
from epic100.settings.config import Settings
from epic100.settings.section import field_at, number_of, unknown_key


def set_words(words: Sequence[str], given: Mapping[str, Any] | None = None) -> str:
    """Encode the words KEY=VALUE as one text, the value of the key `SET` of a config.

    Args:
        words: Words KEY=VALUE, with the key from the top level down: `train.epochs=3`.
        given: More values by such keys.

    Raises:
        EpicError: A word is not KEY=VALUE, there is no such key, or the value is not YAML.
    """
    values = [(name.split("."), value) for name, value in (given or {}).items()]
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise EpicError(f"{word}: expected KEY=VALUE, for example train.epochs=3")
        if fault := unknown_key(Settings, name):
            raise EpicError(f"{word}: {fault}")
        values.append((name.split("."), _value(name.split("."), text, word)))
    # Snakemake would turn plain JSON into a list of texts, so it is quoted.
    return quote(json.dumps(values))


def _value(place: Sequence[str], text: str, word: str) -> Any:
    """Return the value that a typed text stands for at a key.

    Args:
        place: The names from the top level down to the key.
        text: The text behind `=`.
        word: The whole word, for the error.
    """
    field = field_at(Settings, place)
    takes_text = field is not None and _is_text(field.annotation)
    is_quoted = len(text) > 0 and text[0] in "\"'" and text[-1] == text[0]
    try:
        value = yaml.safe_load(text)
        if takes_text and value is not None and not is_quoted:
            return text
        json.dumps(value)  # This raises a TypeError for a date, which YAML has and JSON does not.
    except (yaml.YAMLError, TypeError) as error:
        if takes_text:
            return text
        raise EpicError(f"{word}: the value is not YAML of one line; expected KEY=VALUE") from error
    return number_of(value)


def _is_text(kind: Any) -> bool:
    """Whether the type of a key is a text, or a union that has one: `str | None`."""
    # The items of a list may be texts, but the list itself is written in YAML.
    return kind is str or (
        get_origin(kind) not in (list, dict) and any(map(_is_text, get_args(kind)))
    )
