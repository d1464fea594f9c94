"""KEY=VALUE, as it is typed: a value that is text stays as it is, others are YAML."""

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
        words: Each is KEY=VALUE, the key from the top level down, with dots.
        given: More values, by such keys.

    Raises:
        EpicError: A word is not KEY=VALUE, there is no such key, or the value is not YAML.
    """
    values = [(name.split("."), value) for name, value in (given or {}).items()]
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise EpicError(f"{word}: expected KEY=VALUE, for example train.epochs=3")
        if wrong := unknown_key(Settings, name):
            raise EpicError(f"{word}: {wrong}")
        values.append((name.split("."), _value(name.split("."), text, word)))
    # Snakemake would turn plain JSON into a list of texts, so it is quoted.
    return quote(json.dumps(values))


def _value(place: Sequence[str], text: str, word: str) -> Any:
    """The value that a text stands for at a key."""
    field, quoted = field_at(Settings, place), text[:1] == text[-1:] in ('"', "'")
    try:
        value = yaml.safe_load(text)
        if field and _is_text(field.annotation) and value is not None and not quoted:
            return text
        json.dumps(value)
    except (yaml.YAMLError, TypeError) as error:
        if field and _is_text(field.annotation):
            return text
        raise EpicError(f"{word}: the value is not YAML of one line; expected KEY=VALUE") from error
    return number_of(value)


def _is_text(kind: Any) -> bool:
    """Whether a key of this type takes text, besides null."""
    return (
        kind is str or get_origin(kind) not in (list, dict) and any(map(_is_text, get_args(kind)))
    )
