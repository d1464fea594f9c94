"""Decides what may be built from a config in a model file or checkpoint of unknown origin.

MMEngine resolves a dotted `type` to any callable, and registered classes open the files and URLs in
their arguments. So such a config is checked before anything is built from it:

- `type` must be the name of a registered class from the modules in `TRUSTED`, or from modules in
  the user's config (`modules: imports:`). Pipeline steps must be in the list `STEPS`;
- a `_scope_` other than `mmaction` is an error;
- keys that would load weights (`init_cfg`, `pretrained`, ...) are removed, and text that looks like
  a path or a URL becomes None. Both are reported, not refused: harmless configs have them too;
- numbers must be in the range of real video models.
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
WORDS = ("AvgConsensus", "resnet3d")  # a `type` that is only compared, never built
LOADS = ("init_cfg", "pretrained", "load_from", "checkpoint", "resume_from")
LARGEST_NUMBER = 100_000
LARGEST_STEP_NUMBER = 4_096  # pixels, frames of a clip
MOST_VALUES = 20_000  # of one config
DEEPEST = 30


@dataclass(frozen=True)
class Cleaned:
    """A part of a config that is safe to build.

    Attributes:
        spec: The config.
        dropped: What was removed from it, as readable text.
    """

    spec: dict[str, Any]
    dropped: list[str]


def clean_model(model: Any, where: str, modules: Sequence[str] = ()) -> Cleaned:
    """Make the `model` of a foreign config safe to build.

    Args:
        model: The value of `model` in the config. It must be a recognizer.
        where: Start of error messages: the file.
        modules: Modules that the user trusts. They must be imported already.

    Raises:
        EpicError: The model has a class that is not from MMAction2, this project or `modules`, or
            it is not a recognizer.
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
    """Make the steps of a foreign test pipeline safe to build.

    Args:
        steps: The pipeline in the config.
        where: Start of error messages: the file.
        modules: Modules that the user trusts. They must be imported already.

    Returns:
        The steps, and what was removed from them.

    Raises:
        EpicError: As `clean_model`, or a step is neither in `STEPS` nor from `modules`.
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
    """Return `test_dataloader.dataset.pipeline` of a foreign config, or None if it is missing."""
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
        """Copy `value` without the parts that must not be built."""
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
        """Return the class named in `spec`. Raises EpicError if it is not allowed."""
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
            elif key in LOADS:  # removed, since some classes do not accept None here
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
