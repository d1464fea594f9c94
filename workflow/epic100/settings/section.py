"""The base class of all sections of the config, and the messages about mistakes in them."""

import os
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from epic100.base.errors import URL_WORDS, EpicError, did_you_mean, is_url

# Snakemake reads every value behind its `--config` as a text.
WORDS = {"true": True, "false": False, "null": None}
# These keys were in an earlier version. The texts say what is there instead.
GONE = {
    "annotations.format": "lists are made from the official CSVs: remove the key "
    "(docs/migration.md)",
    "clips": "FFmpeg cuts segments into files (docs/data.md), and the clips of the page to "
    "browse have one size",
    **dict.fromkeys(
        ("evaluate.tail_verbs", "evaluate.tail_nouns", "evaluate.unseen_participants"),
        "put the list, or a link to it, beside the val CSV under its official name (docs/data.md)",
    ),
    "features.grid": "a frozen encoder is a recipe now, whose head sees all tokens; remove the key",
    "probe": "a frozen encoder is a recipe now; set `train: config: config/zoo/hf_attentive.py` "
    "and `train: encoder: FOLDER` (docs/training.md)",
    "scan.seconds_per_second": "raise `scan: min_seconds:`",
    "train.checkpoint": "set `train: options:`, default_hooks.checkpoint.seconds or "
    "default_hooks.checkpoint.max_keep_ckpts",
    "train.max_broken": "set `train: options:`, train_dataloader.dataset.max_broken",
    "videos.proxy.b_frames": "copies have five B-frames in a row",
}
Checked = TypeVar("Checked", bound="Section")


def key(
    default: Any, meaning: str, *, sweep: bool = False, of_inputs: bool = False, **limits: Any
) -> Any:
    """Describe a key of a section.

    Args:
        default: The value if the config does not give one. It is never changed later, since jobs do
            not store it (`Section.stored`).
        meaning: The description for users.
        sweep: Whether `sweep:` may vary the key, since it changes the trained model.
        of_inputs: Whether the key only decides which files a job reads, so that jobs do not store
            it.
        **limits: Limits of the value, as pydantic names them: `ge=1`.
    """
    extra: dict[str, Any] = {"sweep": sweep, "of_inputs": of_inputs}
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """A section of the config, which cannot be changed. An unknown key in it is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    # A message about an unknown key in this section ends with this hint.
    elsewhere: ClassVar[str] = ""

    @classmethod
    def fields_by_key(cls) -> dict[str, FieldInfo]:
        """Return the keys of the section by their names in a config."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _from_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Turn a text into a number, true, false or null where the key takes no text."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        is_null = value == "null" and NoneType in get_args(annotation)
        is_text = isinstance(value, str) and not _takes_text(annotation)
        return value_of(value) if is_null or is_text else value

    def stored(self) -> dict[str, Any]:
        """Return the values that are no defaults, without keys that only name input files.

        Parameters of jobs and the fingerprint of a training have them, so a key that is added later
        makes nothing again. The type of the section makes it again from them.
        """
        fields = type(self).model_fields
        inputs = {name for name, field in fields.items() if extras_of(field)["of_inputs"]}
        values = self.model_dump(by_alias=True, exclude_defaults=True, exclude=inputs)
        for name, value in self:
            if name in values and isinstance(value, Section):
                values[name] = value.stored()
        return values


def value_of(text: Any) -> Any:
    """Return the number, true, false or null that a text stands for; other values as they are.

    YAML 1.1 reads 1e-3 as a text. The items of lists are converted, too.
    """
    match text:
        case list():
            return list(map(value_of, text))
        case dict():
            return dict(zip(text, map(value_of, text.values()), strict=True))
        case str() if re.fullmatch(r"[+-]?\d+", text):
            return int(text)
        case str() if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
            return float(text)
        case str():
            return WORDS.get(text, text)
    return text


def _takes_text(annotation: Any) -> bool:
    """Whether a key takes any text: `FilePath | None` does; a list and a choice of words do not."""
    inner = () if get_origin(annotation) in (list, dict, Literal) else get_args(annotation)
    return annotation is str or any(map(_takes_text, inner))


def checked_section(
    section_type: type[Checked], config: Mapping[str, Any], prefix: str = ""
) -> Checked:
    """Make a section from values of its keys; the others get their defaults.

    Args:
        section_type: The type of the section.
        config: The values by key.
        prefix: Beginning of each line of an error.

    Raises:
        EpicError: A key or value is wrong. The message has a line for each. Only if each is right
            alone, it names keys that contradict each other.
    """
    try:
        return section_type.model_validate(config)
    except ValidationError as error:
        sentences = "\n".join(sentence_of(each, section_type) for each in error.errors())
    # A dictionary has each line once, in the same order.
    lines = "\n".join(dict.fromkeys(sentences.split("\n")))
    raise EpicError(textwrap.indent(lines, prefix))


def sentence_of(error: Mapping[str, Any], model: type[Section]) -> str:
    """Write an error of pydantic as a sentence: `train.epochs is 0; expected ...`.

    Args:
        error: One of pydantic's `errors()`.
        model: The section that was validated.
    """
    location = list(map(str, error["loc"]))
    name, value = ".".join(location), error["input"]
    if error["type"] == "extra_forbidden":
        return _unknown_key(model, location)
    message = error["msg"].removeprefix("Value error, ")
    # These are errors of our validators about a complete section, which name the keys themselves.
    if error["type"] == "value_error" and not location:
        return message
    if error["type"] == "value_error" and isinstance(value, Mapping):
        return message if message.startswith("`") else f"{name}: {message}"
    if error["type"] == "model_type":
        message = "keys with values"
    # Pydantic says `Input should be a valid integer, ...` and `List should have at most 2 items
    # after validation, not 3`.
    message = re.sub(r"^(expected|\w+ should (be|have))( a valid)? ", "", message)
    message = message.partition(" after validation")[0]
    field = field_at(model, location)
    meaning = f" ({field.description})" if field and field.description else ""
    return f"{name or 'top level'} is {value!r}; expected {message}{meaning}"


def _unknown_key(model: type[Section], location: Sequence[str]) -> str:
    """Write what is wrong with an unknown key: with the nearest name, or all known ones.

    Args:
        model: The section in which the key begins.
        location: The names down to the key, of which only the last is unknown.
    """
    *above, last = location
    section = model
    for name in above:
        section = section_of(section.fields_by_key()[name]) or section
    name = ".".join(location)
    if name in GONE:
        return f"key {name!r} is gone: {GONE[name]}"
    if "." in last:
        nested = ": {".join(location).replace(".", ": {")
        return f"key {last!r}: a file has no dots; expected {nested}: ...{'}' * name.count('.')}"
    fields = section.fields_by_key()
    hint = did_you_mean(last, fields, ".".join([*above, "{}"]))
    # A key may lack the section before it: `epochs` of `train.epochs`.
    inner = next((known for known in names_of(section) if known.endswith(f".{last}")), None)
    if inner and not hint:
        hint = f"; did you mean {'.'.join([*above, inner])}?"
    hint = hint or section.elsewhere or f" (known here: {', '.join(fields)})"
    return f"unknown key {name!r}{hint}"


def similar_or_known(name: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown name: a similar name, or all known ones."""
    return did_you_mean(name, known) or f" (known here: {', '.join(known)})"


def names_of(section: type[Section], above: str = "") -> Iterator[str]:
    """Yield the dotted names of all keys of a section and of the sections in it."""
    for name, field in section.fields_by_key().items():
        yield above + name
        if inner := section_of(field):
            yield from names_of(inner, f"{above}{name}.")


def field_at(model: type[Section], place: Sequence[str]) -> FieldInfo | None:
    """Return the deepest known key of a place: that itself, or one above it; None if none is.

    Of `train.options.lr` it is the key `options` of `train`, which holds a plain value.
    """
    field = model.fields_by_key().get(place[0]) if place else None
    section = section_of(field) if field else None
    if section is None:
        return field
    return field_at(section, place[1:]) or field


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the type of the section that a key holds, or None if it holds a plain value."""
    # `ProxySettings | None` is a section, too.
    types = (field.annotation, *get_args(field.annotation))
    sections = (each for each in types if isinstance(each, type) and issubclass(each, Section))
    return next(sections, None)


def extras_of(field: FieldInfo) -> dict[str, Any]:
    """Return the arguments `sweep` and `of_inputs` with which `key` made a key."""
    assert isinstance(field.json_schema_extra, dict), "each key of a section is made by `key`"
    return field.json_schema_extra


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
