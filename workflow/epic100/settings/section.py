"""What a key of the config is made of, and what all sections of the config do."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


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


def about(field: FieldInfo) -> dict[str, Any]:
    """What `key` says of a key besides pydantic's own words."""
    assert isinstance(field.json_schema_extra, dict), "each key of a section is made by `key`"
    return field.json_schema_extra


def section_of(field: FieldInfo) -> "type[Section] | None":
    """The section that a key holds, or may hold; None for a key with a value."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Section)), None)


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

    @classmethod
    def fields_by_key(cls) -> dict[str, FieldInfo]:
        """The keys of the section, by the name that a config has for them."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_as_text(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        kinds = {kind, *get_args(kind)}
        wanted = kinds & {int, float} and not kinds & {str, Any}
        return number_of(value) if wanted else value

    def stored(self) -> dict[str, Any]:
        """What a job or a stamp keeps of a section: what is not as when its key was introduced.

        So a new key makes nothing again, and a changed default does. `model_validate` makes the
        section of it.
        """
        kept: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value, at_first = getattr(self, name), about(field)["at_first"]
            if isinstance(value, Section):
                value, at_first = value.stored(), None if at_first is None else {}
            if value != at_first and not about(field)["of_inputs"]:
                kept[field.alias or name] = value
        return kept
