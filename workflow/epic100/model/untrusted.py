"""Build the model of a model file or checkpoint of unknown origin, without running its code.

MMEngine imports and calls whatever a dotted `type` names, and registered classes open the files and
URLs in their arguments. So a config must be plain data (a config in Python is parsed, not run), and
it is checked before anything is built from it:

- `type` must be the name of a registered class, without a dot: one of MMAction2, this project, or
  modules in the user's config (`modules: imports:`). Pipeline steps must be in the table `STEPS`,
  or of the user's modules, and the data set must be the class of this project or a subclass;
- a `_scope_` other than `mmaction` is an error;
- keys that would load weights (`init_cfg`, `pretrained`, ...) are removed, and text that looks like
  a path or a URL becomes None. Both are reported, not rejected: harmless configs have them too.
  Only the folder of a `HuggingFaceBackbone` stays: it reads safetensors with the model's digest;
- numbers must be in the range of real video models.
"""

import ast
import inspect
import logging
import os
import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from torch import Tensor, nn

from epic100.base.errors import EpicError
from epic100.model.hugging_face import BACKBONE
from epic100.model.mmaction_import import build
from epic100.model.model_file import LONGEST_CONFIG, TrainedModel, test_pipeline_of
from epic100.model.registered import models
from epic100.model.untrusted_steps import LARGEST, STEPS, checked_step

log = logging.getLogger(__name__)

# MMAction2 itself interprets these values of `type`, so they are in no registry.
WORDS = ("AvgConsensus", "resnet3d")
# The values of these keys are files or URLs of weights, which a class would load.
LOADS = ("init_cfg", "pretrained", "load_from", "checkpoint", "resume_from")
LARGEST_NUMBER = 100_000
# This is the limit of frames x height x width x colours of all clips of a segment.
MAX_PIXELS = 2**30
# No argument of MMAction2's classes has a text that is longer than this.
LONGEST_TEXT = 200
# These arguments of steps state sides of frames, in pixels.
SIDES = ("scale", "crop_size", "short_side", "size")


@dataclass(frozen=True)
class Cleaned:
    """The config of a model that is safe to build.

    Attributes:
        spec: The config of the model.
        dropped: The values that were removed from it, as text: `model.init_cfg = ...`.
    """

    spec: Any
    dropped: list[str]


def parse_config(text: str, where: str | os.PathLike, instead: str) -> dict[str, Any]:
    """Parse the Python text of a config, as MMEngine stores it in checkpoints, without running it.

    Args:
        text: Python assignments of literals and `dict(...)` calls.
        where: Start of the error message, such as the file.
        instead: End of the error message, which says what the user can do.

    Returns:
        The assigned values by name.

    Raises:
        EpicError: The text has anything other than names and values, or is too long.
    """
    values = {}
    try:
        if not isinstance(text, str) or len(text) > LONGEST_CONFIG:
            raise ValueError(f"expected at most {LONGEST_CONFIG} characters of text")
        for node in _Literals().visit(ast.parse(text)).body:
            # Only assignments to a plain name are accepted, and `literal_eval` rejects calls.
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = ast.literal_eval(value)
                case _:
                    raise ValueError(f"line {node.lineno}")
        return values
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise EpicError(
            f"{where}: its config cannot be read without running it ({error}); {instead}"
        ) from error


class _Literals(ast.NodeTransformer):
    """Replace calls such as `dict(a=1)` in a syntax tree by literals such as `{"a": 1}`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Replace a call of `dict`. Any other call stays, and `literal_eval` then rejects it."""
        # The arguments are replaced first, since they may be calls of `dict` too.
        self.generic_visit(node)
        match node:
            # The call `dict({...})` gives its only argument.
            case ast.Call(func=ast.Name(id="dict"), args=[value], keywords=[]):
                return value
            # The call `dict(a=1)` gives a literal with the key "a". The call `dict(**x)` gives the
            # key None, which is rejected later: a model or pipeline has names of arguments as keys.
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                names: list[ast.expr | None] = [ast.Constant(keyword.arg) for keyword in keywords]
                return ast.Dict(names, [keyword.value for keyword in keywords])
        return node


def clean_model(model: Any, where: str) -> Cleaned:
    """Make the `model` of an untrusted config safe to build.

    The nested config is copied. Keys that would load files, such as `pretrained`, are left out, and
    classes that are not registered are errors.

    Args:
        model: The value of `model` in the config. It must be a recognizer.
        where: Start of error messages: the file.

    Raises:
        EpicError: The model has a class that is not registered, or it is not a recognizer.
    """
    copier = _SafeCopier(MODELS, where)
    spec = copier.copy(model, "model")
    if not isinstance(spec, dict) or not issubclass(
        copier.registered_class(spec, "model"), models.BaseRecognizer
    ):
        raise EpicError(f"{where}: its `model` is no recognizer; expected one of MMAction2")
    return Cleaned(spec, copier.dropped)


def clean_pipeline(
    steps: Sequence[Mapping[str, Any]], where: str, modules: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Make the steps of an untrusted test pipeline safe to build.

    Args:
        steps: The pipeline, from `test_pipeline_of`.
        where: Start of error messages: the file.
        modules: Modules that the user trusts. They must be imported already.

    Raises:
        EpicError: A step is neither in `STEPS` nor from `modules`, has a wrong argument, or asks
            for too many pixels.
    """
    copier = _SafeCopier(TRANSFORMS, where, LARGEST)
    trusted = tuple(f"{module}." for module in modules)
    cleaned = []
    frames, side = 1.0, 1.0
    for index, untrusted_step in enumerate(steps):
        step = copier.copy(untrusted_step, f"step {index}")
        module = copier.registered_class(step, f"step {index}").__module__
        if step["type"] in STEPS:
            step = checked_step(step, where)
        elif not f"{module}.".startswith(trusted):
            raise EpicError(
                f"{where}: step {index} is {step['type']}; expected one of {', '.join(STEPS)}, or "
                "one of a module that the workflow's config names (`modules: imports:`)"
            )
        cleaned.append(step)
        # The steps together give at most the product of their numbers of frames.
        frames *= _largest(step.get("clip_len")) * _largest(step.get("num_clips"))
        side = max(side, _largest([step.get(name) for name in SIDES]))
    # A frame has three values per pixel, one for each colour.
    if 3 * frames * side**2 > MAX_PIXELS:
        raise EpicError(
            f"{where}: its test pipeline asks for {frames:.0f} frames of up to {side:.0f} pixels a "
            f"side; expected at most {MAX_PIXELS:.0e} values in all"
        )
    return cleaned


def clean_dataset(dataset: Mapping[str, Any], base: type, where: str) -> dict[str, Any]:
    """Copy the type of an untrusted config's data set, and the arguments that only its class takes.

    Args:
        dataset: The value of `test_dataloader.dataset` in the config. Without a type it is `base`.
        base: The class that the data set must be, or be a subclass of. What it takes is left out,
            since a prediction states that itself.
        where: Start of error messages: the file.

    Raises:
        EpicError: The class is not registered, or no subclass of `base`.
    """
    name = "test_dataloader.dataset"
    spec = {"type": base.__name__, **dataset}
    copier = _SafeCopier(DATASETS, where)
    named_class = copier.registered_class(spec, name)
    if not issubclass(named_class, base):
        raise EpicError(
            f"{where}: {name} is a {spec['type']}; expected a subclass of {base.__name__}"
        )
    own = set(inspect.signature(named_class).parameters) - set(inspect.signature(base).parameters)
    return copier.copy({key: spec[key] for key in spec if key in {"type", *own}}, name)


def _largest(value: Any) -> float:
    """Find the largest magnitude in an argument of a step, which may be nested; at least 1.

    It bounds what the step asks for. An argument without a number counts as 1.
    """
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=1)
    return max(1, abs(value)) if isinstance(value, int | float) else 1


class _SafeCopier:
    """Copies a config without the values that could open files.

    Args:
        registry: MMEngine's registry of the classes that the config may name.
        where: Start of error messages: the file.
        largest: The largest number that is allowed.

    Attributes:
        dropped: The values that were left out, as text.
    """

    def __init__(self, registry: Any, where: str, largest: int = LARGEST_NUMBER) -> None:
        """Store what is allowed. The docstring of the class describes the arguments."""
        # MMEngine's own classes are in the parent of MMAction2's registry.
        self._classes = ChainMap(registry.module_dict, registry.parent.module_dict)
        self._where, self._largest = where, largest
        self.dropped: list[str] = []

    def copy(self, value: Any, name: str) -> Any:
        """Copy a value of the config, and check it.

        Args:
            value: The value.
            name: Its name for errors: `model.backbone.depth`.
        """
        if isinstance(value, Mapping):
            return self._copy_mapping(value, name)
        if isinstance(value, list | tuple):
            items = [self.copy(item, f"{name}[{index}]") for index, item in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, str):
            return self._text_or_none(value, name)
        if value is None or isinstance(value, int | float) and abs(value) <= self._largest:
            return value
        # Python does not convert an integer of thousands of digits to text.
        text = "a larger number" if isinstance(value, int) else str(value)[:30]
        raise EpicError(
            f"{self._where}: {name} is {text}; expected plain values, and numbers of at most "
            f"{self._largest}"
        )

    def registered_class(self, spec: Mapping[str, Any], name: str) -> type:
        """Return the class that is the `type` of `spec`; raise EpicError if none is registered.

        The names of registered classes have no dot, so no module is imported.
        """
        type_name = spec.get("type")
        named_class = self._classes.get(type_name) if isinstance(type_name, str) else None
        if not inspect.isclass(named_class):
            raise EpicError(
                f"{self._where}: {name} has the type {str(type_name)[:60]!r}, which is not "
                "registered; expected classes of MMAction2 1.2, or of modules that the workflow's "
                "config names (`modules: imports:`)"
            )
        return named_class

    def _copy_mapping(self, value: Mapping[Any, Any], name: str) -> dict[str, Any]:
        """Copy a dict of the config without the keys that would load files."""
        copy = {}
        for key, item in value.items():
            item_name = f"{name}.{str(key)[:60]}"
            if not isinstance(key, str) or not key.isidentifier():
                raise EpicError(f"{self._where}: {item_name}: expected names of arguments")
            if key == "_scope_":
                if item != "mmaction":
                    raise EpicError(
                        f"{self._where}: {item_name} is {item!r}; expected no `_scope_`"
                    )
            elif key == "type":
                copy[key] = item
                if item not in WORDS:
                    # Called for its error alone: the class itself is not needed here.
                    self.registered_class(copy, name)
            elif key == "encoder_folder" and value.get("type") == BACKBONE:
                copy[key] = str(item)
            elif key in LOADS:
                # The key itself is left out, since some classes do not accept None for it.
                if item:
                    self._report(item, item_name)
            else:
                copy[key] = self.copy(item, item_name)
        return copy

    def _text_or_none(self, text: str, name: str) -> str | None:
        """Return a text of the config, or None if it looks like a path or a URL."""
        # MMAction2 could open or download the file that a path or a URL names.
        is_suspicious = (
            re.search(r"[/\\.~:$%]", text) or len(text) > LONGEST_TEXT or not text.isprintable()
        )
        if not is_suspicious and not Path(text).is_file():
            return text
        self._report(text, name)
        return None

    def _report(self, item: Any, name: str) -> None:
        """Add a value that is left out to `dropped`."""
        self.dropped.append(f"{name} = {str(item)[:80]}")


def open_untrusted(
    trained: TrainedModel, path: str, modules: Sequence[str] = ()
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Build the model of a model file of any origin, and check its test pipeline.

    Args:
        trained: The content of a model file.
        path: The model file.
        modules: Modules that the user trusts. They must be imported already.

    Returns:
        The model on the CPU for evaluation, and its test pipeline.

    Raises:
        EpicError: The model cannot be built from the file.
    """
    cleaned = clean_model(trained.config.get("model"), path)
    built = build_untrusted(cleaned, trained.state_dict, where="its config", file=path)
    steps = clean_pipeline(test_pipeline_of(trained.config, path), path, modules)
    return built.eval(), steps


def build_untrusted(
    cleaned: Cleaned, weights: Mapping[str, Tensor], where: str, file: str | os.PathLike
) -> nn.Module:
    """Build the model of an untrusted config and load its weights, which must match exactly.

    Args:
        cleaned: The result of `clean_model`.
        weights: The weights by name.
        where: Name of the config in errors.
        file: The file of the weights.

    Raises:
        EpicError: The model cannot be built, or the weights do not match it.
    """
    if cleaned.dropped:
        log.info("%s: left out of %s: %s", file, where, "; ".join(cleaned.dropped))
    try:
        built = build(cleaned.spec)
    except EpicError:
        raise
    except Exception as error:  # Constructors raise all types of errors for wrong values.
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise EpicError(
            f"{where}: model cannot be built here ({why}); expected classes of MMAction2 1.2"
        ) from error
    try:
        built.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise EpicError(
            f"{file}: does not fit the model of {where}: {' '.join(str(error).split())[:400]}"
        ) from error
    return built
