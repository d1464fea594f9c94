"""Modules of the user's own, with models and pipeline steps: imported because the config says so.

Processes start without the working folder on their path, where others may put a file, and no model
file decides what is imported. So a folder and names of modules come from `modules:` in the config.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from epic100.base.errors import EpicError


def use_modules(modules: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Put `modules["folder"]` on the import path and import `modules["imports"]`, in their order.

    Args:
        modules: The config's section `modules:`; None is neither.

    Returns:
        The names of the modules.

    Raises:
        EpicError: A module that is not there or that fails.
    """
    section = modules or {}
    if folder := section.get("folder"):
        sys.path.append(os.path.abspath(folder))  # last: it must not stand in for anything else
    for name in section.get("imports", ()):
        try:
            importlib.import_module(name)
        except Exception as error:  # a module is a program, and fails as programs do
            raise EpicError(
                f"config: `modules: imports:` names {name}, which cannot be imported "
                f"({type(error).__name__}: {error}); expected a module in `modules: folder:` "
                f"({folder}) or an installed one"
            ) from error
    return tuple(section.get("imports", ()))
