"""Types of values that keys of several sections have."""

import os
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from epic100.base.names import URL_WORDS, is_url

AUTO = "auto"


def _expanded(path: str) -> str:
    """Return a path with `~` and `$VAR` replaced."""
    expanded = os.path.expanduser(os.path.expandvars(path))
    if missing := re.search(r"\$\{?(\w+)", expanded):
        raise ValueError(f"expected a path, but the environment has no variable {missing[1]}")
    return expanded


def _file_or_url(text: str) -> str:
    """Return a path or URL as it is, or raise if it is a URL that nothing can be fetched from."""
    if "://" in text and not is_url(text):
        raise ValueError(f"expected a file, or the URL of one: {URL_WORDS}")
    return text


def unique(values: list[Any]) -> list[Any]:
    """Return a list as it is, or raise if it has a value twice."""
    if any(value in values[:index] for index, value in enumerate(values)):
        raise ValueError("expected each value once")
    return values


def like(pattern: str, words: str) -> Callable[[str], str]:
    """Return a validator for a text that matches a pattern, which a message writes in words."""

    def matching(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {words}")
        return text

    return matching


FilePath = Annotated[str, AfterValidator(_expanded)]
FileOrUrl = Annotated[FilePath, AfterValidator(_file_or_url)]
Names = Annotated[list[str], AfterValidator(unique)]
Files = Annotated[list[FilePath], AfterValidator(unique)]
Module = Annotated[str, AfterValidator(like(r"[A-Za-z_][A-Za-z0-9_.]*", "a module: my_lab.models"))]
RunName = Annotated[
    str,
    AfterValidator(
        like(
            r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
            "up to 100 letters, digits, '.', '_' and '-', the first a letter or digit",
        )
    ),
]
Heads = Literal["pair", "verb_noun", "both"]
Share = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(ge=0.01, le=3600)]
