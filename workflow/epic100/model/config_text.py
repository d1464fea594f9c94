"""Reads the MMEngine configs in model files as data: loading a model file never runs code."""

import ast
import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from epic100.base.errors import EpicError

LONGEST = 500_000  # characters; a complete MMAction2 config has about 10,000


def parse_config(
    text: str, where: str | os.PathLike, instead: str = "train it again with this workflow"
) -> Config:
    """Parse a complete config, as MMEngine stores it in checkpoints, without running it.

    Args:
        text: Python assignments of literals and `dict(...)` calls.
        where: Start of the error message, such as the file.
        instead: End of the error message: what the user can do.

    Raises:
        EpicError: The text has anything other than names and values, or is too long.
    """
    try:
        if not isinstance(text, str) or len(text) > LONGEST:
            raise ValueError(f"expected at most {LONGEST} characters of text")
        tree = ast.parse(text)
        values = {}
        for node in tree.body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                raise ValueError(f"line {node.lineno}")
            values[node.targets[0].id] = _value(node.value)
        return Config(values)
    except (
        SyntaxError, ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError
    ) as error:  # fmt: skip
        raise EpicError(
            f"{where}: its config cannot be read without running it ({error}); {instead}"
        ) from error


def _value(node: ast.expr) -> Any:
    """Evaluate a literal or `dict(...)`."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or len(node.args) > 1:
            raise ValueError(f"line {node.lineno}")
        value = dict(_value(node.args[0])) if node.args else {}
        for keyword in node.keywords:
            more = _value(keyword.value)
            value |= {keyword.arg: more} if keyword.arg else _mapping(more, node)
        return value
    if isinstance(node, ast.Dict):
        if None in node.keys:  # {**other}, which MMEngine does not write
            raise ValueError(f"line {node.lineno}")
        items = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(item) for key, item in items if key}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(item) for item in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)


def _mapping(value: Any, node: ast.expr) -> Mapping:
    if not isinstance(value, dict):
        raise ValueError(f"line {node.lineno}")
    return value
