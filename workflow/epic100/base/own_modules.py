"""The user's own modules with models and pipeline steps, imported because the config names them.

Processes start without the working folder on their import path, because others may put files there.
A model file never decides what is imported. So the folder and the module names come from `modules:`
in the config.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from epic100.base.errors import EpicError


def use_modules(modules: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Import the user's own modules: add `modules["folder"]` to the path, import `"imports"`.

    Args:
        modules: The section `modules:` of the config; None means no folder and no imports.

    Returns:
        The names of the imported modules.

    Raises:
        EpicError: A module is missing or its import fails.
    """
    section = modules or {}
    if folder := section.get("folder"):
        # The folder comes last, so that it hides no other module.
        sys.path.append(os.path.abspath(folder))
    for name in section.get("imports", ()):
        try:
            importlib.import_module(name)
        except Exception as error:  # A module is code, so any error is possible.
            raise EpicError(
                f"config: `modules: imports:` names {name}, which cannot be imported "
                f"({type(error).__name__}: {error}); expected a module in `modules: folder:` "
                f"({folder}) or an installed one"
            ) from error
    return tuple(section.get("imports", ()))
