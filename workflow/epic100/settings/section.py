"""What a key of the config is made of, what all sections do, and mistakes in plain words."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from epic100.base.errors import EpicError
from epic100.base.names import did_you_mean

# It has the words in which a mistake names a pattern, by pattern.
FORMS: dict[str, str] = {}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
Kind = TypeVar("Kind", bound="Section")
Place = Sequence[str | int]


def key(
    default: Any,
    meaning: str,
    *,
    sweep: bool = False,
    of_inputs: bool = False,
    at_first: Any = ...,
    **limits: Any,
) -> Any:
    """A key of a section.

    Args:
        default: Its value where the config does not give it.
        meaning: What a user reads about it.
        sweep: Whether `sweep:` may vary it, since it changes what is learned.
        of_inputs: Whether it only decides which files a job reads, so that jobs do not store it.
        at_first: The default with which it was introduced, where that has changed since.
        **limits: Limits of the value, as pydantic names them.
    """
    extra = {
        "sweep": sweep,
        "of_inputs": of_inputs,
        "at_first": default if at_first is ... else at_first,
    }
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


def form(pattern: str, words: str) -> str:
    """A pattern of texts, and the words in which a mistake names it."""
    FORMS[pattern] = words
    return pattern


def about(field: FieldInfo) -> dict[str, Any]:
    """What `key` says of a key besides pydantic's own words."""
    assert isinstance(field.json_schema_extra, dict), "each key of a section is made by `key`"
    return field.json_schema_extra


def section_of(field: FieldInfo) -> "type[Section] | None":
    """The section that a key holds, or may hold; None for a key with a value."""
    types = (field.annotation, *get_args(field.annotation))
    return next((k for k in types if isinstance(k, type) and issubclass(k, Section)), None)


def number_of(text: Any) -> Any:
    """The number that a text is, else what was given. YAML 1.1 reads 1e-3 as text."""
    if not isinstance(text, str) or not NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() else float(text)


class Section(BaseModel):
    """A part of the config, which cannot be changed. Another key than its own is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    # A message about an unknown key in this section ends with this hint.
    elsewhere: ClassVar[str] = ""

    @classmethod
    def fields_by_key(cls) -> dict[str, FieldInfo]:
        """The keys of the section, by the name that a config has for them."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_as_text(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        types = {annotation, *get_args(annotation)}
        takes_numbers = types & {int, float} and not types & {str, Any}
        return number_of(value) if takes_numbers else value

    if not TYPE_CHECKING:  # This lets mypy still report names that no section has.

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise AttributeError(
                    f"{type(self).__name__} of this job has no `{name}`: its rule does not name it "
                    "in `CONFIG.only(...)`"
                )
            return super().__getattr__(name)

    def forget(self, names: Iterable[str]) -> None:
        """Make it an error to read these keys: a job was not given them, and has no default."""
        for name in names:
            del self.__dict__[name]

    def stored(self) -> dict[str, Any]:
        """What a job or a stamp keeps of a section: what is not as when its key was introduced.

        So a new key makes nothing again, and a changed default does. `model_validate` makes the
        section of it.
        """
        kept: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if about(field)["of_inputs"]:
                continue
            value, at_first = getattr(self, name), about(field)["at_first"]
            if isinstance(value, Section):
                value, at_first = value.stored(), None if at_first is None else {}
            if value != at_first:
                kept[field.alias or name] = value
        return kept


def known_and_meant(name: str, known: Iterable[str]) -> str:
    """What an unknown name may stand for, and the names that are known."""
    known = list(known)
    return did_you_mean(name, known) or f" (known here: {', '.join(known)})"


def names_of(section: "type[Section]", above: str = "") -> Iterator[str]:
    """Dotted names of all keys of a section, and of the sections in it."""
    for name, field in section.fields_by_key().items():
        yield above + name
        if inner := section_of(field):
            yield from names_of(inner, f"{above}{name}.")


def unknown_key(section: "type[Section]", name: str) -> str:
    """What is wrong with a dotted name of a key; "" if it is one, or is in the value of one."""
    inner: type[Section] | None = section
    above = ""
    for key_name in name.split("."):
        if inner is None:
            return ""
        fields = inner.fields_by_key()
        if key_name not in fields:
            hint = (
                did_you_mean(key_name, fields, above + "{}")
                if above
                else did_you_mean(
                    name, [path for path in names_of(section) if path.count(".") == name.count(".")]
                )
            )
            hint = hint or inner.elsewhere or f" (known here: {', '.join(fields)})"
            return f"unknown key {name!r}{hint}"
        inner, above = section_of(fields[key_name]), f"{above}{key_name}."
    return ""


def checked(
    kind: type[Kind],
    config: Mapping[str, Any],
    prefix: str = "",
    places: Mapping[tuple[str, ...], str] | None = None,
) -> Kind:
    """Make a section of its keys, with its defaults.

    Args:
        kind: The section.
        config: Its keys and values.
        prefix: Beginning of each line of an error.
        places: Where each key is written, for the messages: `FILE:LINE: `, by the names from the
            top level down to it.

    Raises:
        EpicError: Something is wrong. The message names every key at once; keys that contradict
            each other once each is right.
    """
    try:
        return kind.model_validate(config)
    except ValidationError as error:
        errors = error.errors()
    lines = [
        f"{prefix}{_where(error['loc'], places or {})}{line}"
        for error in errors
        for line in words_of(error, kind).split("\n")
    ]
    raise EpicError("\n".join(dict.fromkeys(lines)))


def _where(place: Place, places: Mapping[tuple[str, ...], str]) -> str:
    """Where a key is written, or the nearest key above it that is; "" if none is."""
    names = tuple(map(str, place))
    return next((places[names[:n]] for n in range(len(names), 0, -1) if names[:n] in places), "")


def words_of(error: Mapping[str, Any], model: type[Section]) -> str:
    """One sentence that names the key, what it is and what was expected.

    Args:
        error: One of pydantic's `errors()`.
        model: What was validated.
    """
    location, value = error["loc"], error["input"]
    name = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        # A dotted name that is known as it is typed has no fault of its own.
        names = name.split(".")
        nested = ": {".join(names) + ": ..." + "}" * (len(names) - 1)
        return unknown_key(model, name) or f"key {name!r}: a file has no dots; expected {nested}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and (not location or isinstance(value, Mapping)):
        return message if not location or message.startswith("`") else f"{name}: {message}"
    message = message.removeprefix("Input should be ").removeprefix("a valid ")
    if error["type"] == "model_type":
        message = "keys with values"
    field = field_at(model, location)
    if error["type"] == "string_pattern_mismatch":
        message, field = FORMS[error["ctx"]["pattern"]], None
    meaning = f" ({field.description})" if field and field.description else ""
    expected = message if message.startswith("expected") else f"expected {message}"
    return f"{name or 'top level'} is {value!r}; {expected}{meaning}"


def field_at(model: type[Section], place: Place) -> FieldInfo | None:
    """The key that a place is in or below; None at the top level."""
    field = model.fields_by_key().get(str(place[0])) if place else None
    section = section_of(field) if field else None
    return (field_at(section, place[1:]) if section else None) or field
