"""Read config/published.yaml: the models that others trained on EPIC-KITCHENS-100 and published."""

from functools import cache
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from epic100.base.disk import read_text
from epic100.base.shipped import ROOT


class Published(BaseModel):
    """An entry of config/published.yaml. The comment at the top of that file describes its keys."""

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
        """The key of `published_frames.RULES` by which frames are chosen: `avion`, `lavila`."""
        return self.sampling["rule"]


@cache
def published() -> dict[str, Published]:
    """Read the entries of all published models, by name."""
    content = yaml.safe_load(read_text(ROOT / "config/published.yaml"))
    return {name: Published(**keys) for name, keys in content.items()}
