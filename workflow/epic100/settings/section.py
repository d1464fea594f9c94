"""The base class of all sections of the config, and the messages about mistakes in them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from epic100.base.errors import EpicError
from epic100.base.names import did_you_mean

# Words for messages that describe what a text must look like, by its pattern. `form` fills this.
FORMS: dict[str, str] = {}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
Kind = TypeVar("Kind", bound="Section")
# The names from the top level down to a key, and the numbers of items in lists.
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
    """Describe a key of a section.

    Args:
        default: The value if the config does not give one.
        meaning: The description for users.
        sweep: Whether `sweep:` may vary the key, since it changes the trained model.
        of_inputs: Whether the key only decides which files a job reads, so that jobs do not store
            it.
        at_first: The default of the version that introduced the key, if it has changed since.
        **limits: Limits of the value, as pydantic names them: `ge=1`.
    """
    extra = {
        "sweep": sweep,
        "of_inputs": of_inputs,
        "at_first": default if at_first is ... else at_first,
    }
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


def form(pattern: str, words: str) -> str:
    """Store the description of a pattern for messages about a wrong text, and return the pattern.

    Args:
        pattern: A regular expression, of which pydantic requires a match.
        words: What it matches, for users: `64 hexadecimal digits`.
    """
    FORMS[pattern] = words
    return pattern


def extras_of(field: FieldInfo) -> dict[str, Any]:
    """Return the arguments `sweep`, `of_inputs` and `at_first` with which `key` made a key."""
    assert isinstance(field.json_schema_extra, dict), "each key of a section is made by `key`"
    return field.json_schema_extra


def section_of(field: FieldInfo) -> "type[Section] | None":
    """Return the type of the section that a key holds, or None if it holds a plain value."""
    # `ProxySettings | None` is a section, too.
    types = (field.annotation, *get_args(field.annotation))
    sections = (each for each in types if isinstance(each, type) and issubclass(each, Section))
    return next(sections, None)


def number_of(text: Any) -> Any:
    """Return the number that a text stands for; any other value is returned as it is.

    YAML 1.1 reads 1e-3 as a text.
    """
    if not isinstance(text, str) or not NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() else float(text)


class Section(BaseModel):
    """A section of the config, which cannot be changed. An unknown key in it is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    # A message about an unknown key in this section ends with this hint.
    elsewhere: ClassVar[str] = ""
    # These keys were in the section in an earlier version. The texts say what is there instead.
    gone: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def fields_by_key(cls) -> dict[str, FieldInfo]:
        """Return the keys of the section by their names in a config."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _text_to_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Turn a text into a number if the key takes numbers, and neither texts nor any value.

        A command line has only texts, and YAML reads some numbers as text (`number_of`).
        """
        annotation = cls.model_fields[info.field_name or ""].annotation
        types = {annotation, *get_args(annotation)}
        takes_numbers = types & {int, float} and not types & {str, Any}
        return number_of(value) if takes_numbers else value

    # With this method, mypy would accept any name of a key.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explain why a job cannot read a key: it has only the keys that its rule names.

            Python calls this only for a missing attribute, such as a key that `forget` removed.
            """
            if name in type(self).model_fields:
                raise AttributeError(
                    f"{type(self).__name__} of this job has no `{name}`: its rule does not name it "
                    "in `CONFIG.only(...)`"
                )
            return super().__getattr__(name)

    def forget(self, names: Iterable[str]) -> None:
        """Remove keys that a job was not given.

        Reading one then raises an AttributeError, where it would give the default of the key.
        """
        for name in names:
            del self.__dict__[name]

    def stored(self) -> dict[str, Any]:
        """Return the values that differ from the first default of their key, by key.

        The first default is that of the version that introduced the key. Parameters of jobs and
        the stamps of trainings, by which a training is recognised, store these values. So a new
        key makes no job run again, but a changed default does. `model_validate` makes the section
        from them.
        """
        values: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if extras_of(field)["of_inputs"]:
                continue
            value = getattr(self, name)
            at_first = extras_of(field)["at_first"]
            if isinstance(value, Section):
                value = value.stored()
                # A section that was introduced as null is stored also if it is empty.
                at_first = None if at_first is None else {}
            if value != at_first:
                values[field.alias or name] = value
        return values


def similar_or_known(name: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown name: a similar name, or all known ones."""
    return did_you_mean(name, known) or f" (known here: {', '.join(known)})"


def names_of(section: "type[Section]", above: str = "") -> Iterator[str]:
    """Yield the dotted names of all keys of a section and of the sections in it."""
    for name, field in section.fields_by_key().items():
        yield above + name
        if inner := section_of(field):
            yield from names_of(inner, f"{above}{name}.")


def unknown_key(section: "type[Section]", name: str) -> str:
    """Return what is wrong with the dotted name of a key, or "" if there is such a key.

    A name below a key with a plain value, such as an option of `train.options`, is not checked.

    Args:
        section: The section in which the name begins, such as the whole config.
        name: The name as typed, such as `train.epochs`.

    Returns:
        A message with the most similar name, or with where such keys belong, or with all known
        keys.
    """
    inner: type[Section] | None = section
    above = ""
    for key_name in name.split("."):
        if inner is None:
            # The name goes on below a plain value.
            return ""
        if key_name in inner.gone:
            return f"key {above + key_name!r} is gone: {inner.gone[key_name]}"
        fields = inner.fields_by_key()
        if key_name not in fields:
            # In a known section, a key of this section is meant. If the first part is unknown, the
            # section itself may have another name, so whole names are compared.
            similar = (
                did_you_mean(key_name, fields, above + "{}")
                if above
                else did_you_mean(name, _names_of_depth(section, name.count(".")))
            )
            hint = similar or inner.elsewhere or f" (known here: {', '.join(fields)})"
            return f"unknown key {name!r}{hint}"
        inner = section_of(fields[key_name])
        above = f"{above}{key_name}."
    return ""


def _names_of_depth(section: "type[Section]", dots: int) -> list[str]:
    """List the dotted names of all keys of a section that have this number of dots."""
    return [name for name in names_of(section) if name.count(".") == dots]


def checked(
    kind: type[Kind],
    config: Mapping[str, Any],
    prefix: str = "",
    places: Mapping[tuple[str, ...], str] | None = None,
) -> Kind:
    """Make a section from values of its keys; the others get their defaults.

    Args:
        kind: The type of the section.
        config: The values by key.
        prefix: Beginning of each line of an error.
        places: File and line of each key for the messages, `FILE:LINE: `, by the names from the
            top level down to the key.

    Raises:
        EpicError: A key or value is wrong. The message has a line for each. Only if each is right
            alone, it names keys that contradict each other.
    """
    try:
        return kind.model_validate(config)
    except ValidationError as error:
        errors = error.errors()
    lines = [
        f"{prefix}{_where(error['loc'], places or {})}{line}"
        for error in errors
        for line in sentence_of(error, kind).split("\n")
    ]
    raise EpicError("\n".join(dict.fromkeys(lines)))


def _where(place: Place, places: Mapping[tuple[str, ...], str]) -> str:
    """Return file and line of a key, or of the nearest key above it; "" if none is written."""
    names = tuple(map(str, place))
    prefixes = (names[:length] for length in range(len(names), 0, -1))
    return next((places[prefix] for prefix in prefixes if prefix in places), "")


def sentence_of(error: Mapping[str, Any], model: type[Section]) -> str:
    """Write an error of pydantic as a sentence: `train.epochs is 0; expected ...`.

    Args:
        error: One of pydantic's `errors()`.
        model: The section that was validated.
    """
    location, value = error["loc"], error["input"]
    name = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        # If the dotted name is right, the mistake is to write it with dots in a file.
        names = name.split(".")
        nested = ": {".join(names) + ": ..." + "}" * (len(names) - 1)
        return unknown_key(model, name) or f"key {name!r}: a file has no dots; expected {nested}"
    message = error["msg"].removeprefix("Value error, ")
    # These are errors of our validators about a whole section, which name the keys themselves.
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
    """Return the deepest known key of a place: that itself, or one above it; None if none is.

    Of `train.options.lr` it is the key `options` of `train`, which holds a plain value.
    """
    field = model.fields_by_key().get(str(place[0])) if place else None
    section = section_of(field) if field else None
    if section is None:
        return field
    return field_at(section, place[1:]) or field
