"""The workflow's config: validated against its JSON schema and completed with defaults."""

import copy
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT

# JSON Schema accepts 1.0 as an integer; Python's range() and torch do not.
Strict = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
DEFAULT = "config/config.yaml"


def complete_config(config: dict) -> dict:
    """Validate a config and fill in the schema's defaults.

    Args:
        config: The config; it is not changed.

    Returns:
        A complete copy.

    Raises:
        EpicError: The config does not match the schema. The message names the key.
    """
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    errors = sorted(Strict(schema).iter_errors(config), key=lambda e: [str(p) for p in e.path])
    if errors:
        # The schema reports each missing key of a section with the same message.
        words = dict.fromkeys(_words(error) for error in errors)
        raise EpicError("config: " + "; ".join(words))
    filled = copy.deepcopy(config)
    _fill(filled, schema)
    return filled


def layered_config(
    overlays: Sequence[str | os.PathLike], directory: str | os.PathLike = ""
) -> dict:
    """Build the config that Snakemake would use in `directory` with these `--configfile`s.

    The base is `config/config.yaml` of the folder, or the shipped one if the folder has none. The
    overlays are merged into it key by key, in order.

    Args:
        overlays: Paths of further config files.
        directory: The working folder of the run.

    Returns:
        The validated, complete config.

    Raises:
        EpicError: A file is missing or is not YAML, or the config does not match the schema.
    """
    own = Path(directory) / DEFAULT
    config: dict = {}
    for path in (own if own.is_file() else ROOT / DEFAULT, *map(Path, overlays)):
        _merge(config, read_layer(path))
    return complete_config(config)


def read_layer(path: str | os.PathLike) -> dict:
    """Read one config file without validating it.

    Raises:
        EpicError: The file cannot be read, or is not YAML with keys.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        layer = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        tab = "; indent with spaces, not tabs" if "'\\t'" in reason else ""
        raise EpicError(f"{path}: not a readable config ({reason}); expected YAML{tab}") from error
    if layer is None:
        raise EpicError(f"{path}: no key in it; expected a config, key by key, or remove the file")
    if not isinstance(layer, dict):
        raise EpicError(f"{path}: is a {type(layer).__name__}; expected a config, key by key")
    return layer


def _merge(config: dict, over: dict) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        else:
            config[key] = value


def gpus_to_ask(section: dict) -> int:
    """Number of GPUs that a job requests from its scheduler.

    Args:
        section: The section `train` or `predict` of the config.

    Returns:
        0 on the CPU, else `gpus`, or 1 if `gpus` is null; times `nodes`, if there is more than one.
    """
    if section.get("device") == "cpu":
        return 0
    on_node = 1 if section["gpus"] is None else section["gpus"]
    return on_node * section.get("nodes", 1)


def resources_of_nodes(section: dict) -> dict[str, int | str]:
    """What a job over several nodes requests from Slurm besides GPUs: one task a node.

    With `mpi` the executor runs the job's command on the first node only and leaves it to the
    command to start the others. `tasks_per_gpu: 0` keeps it from taking `tasks` as tasks of a GPU.

    Args:
        section: The section `train` of the config.

    Returns:
        Resources of the rule; empty for one node.
    """
    nodes = section["nodes"]
    return {"mpi": "srun", "nodes": nodes, "tasks": nodes, "tasks_per_gpu": 0} if nodes > 1 else {}


def _fill(value: dict, schema: dict) -> None:
    for key, part in schema.get("properties", {}).items():
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        if isinstance(value.get(key), dict):
            _fill(value[key], part)


def _words(error: Any) -> str:  # a ValidationError, each part of which may be unset
    where = ".".join(str(part) for part in error.path)
    if error.validator == "additionalProperties" and "properties" in error.schema:
        known = list(error.schema["properties"])
        unknown = [key for key in error.instance if key not in known]
        parts = []
        for key in unknown:
            close = difflib.get_close_matches(str(key), known, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            dotted = f"{where}.{key}" if where else key
            parts.append(f"unknown key {dotted!r}{meant} (known here: {', '.join(known)})")
        return "; ".join(parts)
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        names = ", ".join(repr(f"{where}.{key}" if where else key) for key in missing)
        return f"key {names} is missing"
    about = error.schema.get("description", "")
    expected = {"type": "of type", "enum": "one of"}.get(error.validator, error.validator)
    return (
        f"{where or 'top level'} is {error.instance!r}; expected {expected} "
        f"{error.validator_value} ({about})"
    )
