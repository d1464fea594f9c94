"""Configs out of other people's files: what of them may be built.

MMEngine resolves a dotted `type` to any callable there is, and registered classes open the files
and addresses that their arguments name. So a config that comes inside a model file or a checkpoint
is gone through before anything is built of it:

- a `type` is the name of a class in the registry's own table, from the modules of `TRUSTED` or from
  modules that the user's config names (`modules: imports:`); pipeline steps come from a list;
- `_scope_` is refused;
- what would load weights (`init_cfg`, `pretrained`, ...) is left out, every text that names a file
  or an address is set to None, and both are listed, since honest configs hold them as well;
- numbers stay within what a model of this field has.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from epic100.base.errors import EpicError
from epic100.base.names import printable

TRUSTED = (
    "epic100.",
    "mmaction.models.backbones.",
    "mmaction.models.common.",
    "mmaction.models.data_preprocessors.",
    "mmaction.models.heads.",
    "mmaction.models.losses.",
    "mmaction.models.necks.",
    "mmaction.models.recognizers.",
    "mmaction.models.utils.",
    "mmcv.cnn.",
    "mmengine.model.",
    "mmengine.utils.dl_utils.",
    "torch.nn.modules.",
)
STEPS = (
    "OpenSegment", "SampleFrames", "UniformSample", "DecodeSegment", "Resize", "CenterCrop",
    "ThreeCrop", "TenCrop", "Flip", "Normalize", "FormatShape", "PackActionInputs",
)  # fmt: skip
WORDS = ("AvgConsensus", "resnet3d")  # each a `type` that its owner compares, and builds nothing of
LOADS = ("init_cfg", "pretrained", "load_from", "checkpoint", "resume_from")
LARGEST_NUMBER = 100_000
LARGEST_STEP_NUMBER = 4_096  # pixels, frames of a clip
MOST_VALUES = 20_000  # of one config
DEEPEST = 30


@dataclass(frozen=True)
class Cleaned:
    """A part of a config that may be built, and what was taken out of it, for people."""

    spec: dict[str, Any]
    dropped: list[str]


def clean_model(model: Any, where: str, modules: Sequence[str] = ()) -> Cleaned:
    """The `model` of a foreign config, fit to be built.

    Args:
        model: the config's value; a recognizer.
        where: begins errors: the file.
        modules: names of modules that the user trusts, imported before.

    Raises:
        EpicError: something that is no model of MMAction2, of this project or of `modules`.
    """
    from mmaction.registry import MODELS

    import epic100.model.registered  # noqa: F401
    from epic100.model.mmaction_import import models

    walk = _Walk(MODELS, where, (*TRUSTED, *(f"{name}." for name in modules), *modules))
    spec = walk.value(model, "model")
    if not isinstance(spec, dict) or not issubclass(
        walk.kind(spec, "model"), models.BaseRecognizer
    ):
        raise EpicError(f"{where}: its `model` is no recognizer; expected one of MMAction2")
    return Cleaned(spec, walk.dropped)


def clean_pipeline(
    steps: Any, where: str, modules: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """The steps of a foreign test pipeline, fit to be built, and what was taken out of them.

    Raises EpicError as `clean_model`, and for a step that is neither in `STEPS` nor of `modules`.
    """
    from mmaction.registry import TRANSFORMS

    walk = _Walk(TRANSFORMS, where, (*(f"{name}." for name in modules), *modules), STEPS)
    walk.largest = LARGEST_STEP_NUMBER
    if not isinstance(steps, list | tuple) or not all(isinstance(s, Mapping) for s in steps):
        raise EpicError(f"{where}: its test pipeline is no list of steps, each with its `type`")
    cleaned = [walk.value(step, f"step {place}") for place, step in enumerate(steps)]
    for place, step in enumerate(cleaned):
        walk.kind(step, f"step {place}")
    return cleaned, walk.dropped


def test_pipeline_of(config: Config) -> Any:
    """What a foreign config has at `test_dataloader.dataset.pipeline`; None where it has none."""
    found: Any = config
    for key in ("test_dataloader", "dataset", "pipeline"):
        found = found.get(key) if isinstance(found, Mapping | Config) else None
    return found


class _Walk:
    def __init__(
        self, registry: Registry, where: str, trusted: Sequence[str], listed: Sequence[str] = ()
    ) -> None:
        self._registry, self._where, self._listed = registry, where, listed
        self._trusted = tuple(trusted)
        self.largest = LARGEST_NUMBER
        self.dropped: list[str] = []
        self._left = MOST_VALUES

    def value(self, value: Any, name: str, depth: int = 0) -> Any:
        """A copy of `value` without what must not be built."""
        self._left -= 1
        if self._left < 0 or depth > DEEPEST:
            raise EpicError(f"{self._where}: its config is larger or deeper than any model's")
        if isinstance(value, Mapping):
            return self._mapping(value, name, depth)
        if isinstance(value, list | tuple):
            items = [self.value(v, f"{name}[{i}]", depth + 1) for i, v in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, str):
            return self._text(value, name)
        if isinstance(value, int | float) and not abs(value) <= self.largest:
            raise EpicError(
                f"{self._where}: {name} is {str(value)[:30]}; expected at most {self.largest}"
            )
        if value is None or isinstance(value, bool | int | float):
            return value
        raise EpicError(f"{self._where}: {name} is a {type(value).__name__}; expected plain values")

    def kind(self, spec: Mapping[str, Any], name: str) -> type:
        """The class that `spec` names. Raises EpicError where it is none of those that may be."""
        found, wanted = None, spec.get("type")
        registry: Registry | None = self._registry
        while registry is not None and found is None:
            found = registry.module_dict.get(wanted) if isinstance(wanted, str) else None
            registry = registry.parent
        if not inspect.isclass(found) or not (
            wanted in self._listed or f"{found.__module__}.".startswith(self._trusted)
        ):
            raise EpicError(
                f"{self._where}: {name} has the type {str(wanted)[:60]!r}, which is none of those "
                "that a file may have built here; expected classes of MMAction2 1.2, or of modules "
                "that the workflow's config names (`modules: imports:`)"
            )
        return found

    def _mapping(self, value: Mapping[Any, Any], name: str, depth: int) -> dict[str, Any]:
        copy = {}
        for key, item in value.items():
            part = f"{name}.{printable(str(key))[:60]}"
            if not isinstance(key, str) or not key.isidentifier():
                raise EpicError(f"{self._where}: {part}: expected names of arguments")
            if key == "_scope_":
                if item != "mmaction":
                    raise EpicError(f"{self._where}: {part} is {item!r}; expected no `_scope_`")
            elif key == "type":
                copy[key] = item
                if item not in WORDS:
                    self.kind(copy, name)
            elif key in LOADS:  # left out: some classes take no None here
                if item:
                    self._drop(item, part)
            else:
                copy[key] = self.value(item, part, depth + 1)
        return copy

    def _text(self, text: str, name: str) -> str | None:
        names_file = re.search(r"[/\\.~:$%]", text) or len(text) > 200 or not text.isprintable()
        if not names_file and not Path(text).is_file():
            return text
        self._drop(text, name)
        return None

    def _drop(self, item: Any, name: str) -> None:
        self.dropped.append(f"{name} = {printable(str(item))[:80]}")
