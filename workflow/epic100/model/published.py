"""The models that others trained on EPIC-KITCHENS-100 and published: config/published.yaml."""

from functools import cache
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from epic100.base.disk import read_text
from epic100.base.shipped import ROOT


class Published(BaseModel):
    """A published model's entry in config/published.yaml, whose head describes the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    url: str
    md5: str | None
    code: str
    licence: str
    start: str
    verb: float | None
    noun: float | None
    action: float
    own_scores: bool
    recipe: str
    heads: Literal["pair", "both", "verb_noun"]
    classes: dict[str, int]
    sampling: dict[str, Any]
    sides: tuple[int, int]
    megabytes: int
    minutes: int
    changes: dict[str, Any] = {}

    @property
    def rule(self) -> str:
        """The rule that chooses the model's frames, named after the code that trained the model."""
        return self.sampling["rule"]


@cache
def published() -> dict[str, Published]:
    """Read the entries of all published models, by name."""
    content = yaml.safe_load(read_text(ROOT / "config/published.yaml"))
    return {name: Published(**keys) for name, keys in content.items()}
