"""The user's own modules: import them because the config names them, and digest their code.

Processes start without the working folder on their import path, because others may put files there.
A model file never decides what is imported. So the folder and the module names come from `modules:`
in the config, and from `custom_imports` of the recipe.
"""

import ast
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from epic100.base.disk import digest
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
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename}:{last.lineno}"
            if isinstance(error, SyntaxError):
                place = f"{error.filename}:{error.lineno}"
            raise EpicError(
                f"config: `modules: imports:` names {name}, which cannot be imported "
                f"({place}: {type(error).__name__}: {error}); expected a module in `modules: "
                f"folder:` ({folder}) or an installed one"
            ) from error
    return tuple(section.get("imports", ()))


def code_digests(recipe: str | os.PathLike, modules: Mapping[str, Any] | None) -> dict[str, str]:
    """Compute a digest of each module of the user, without importing any.

    These are the modules of the section `modules:` and of the recipe's `custom_imports`, and those
    that they import themselves from the same folder or from the working folder. Installed modules
    are left out.

    Args:
        recipe: The MMEngine config file.
        modules: The section `modules:` of the config.

    Returns:
        SHA-256 by the module's name.
    """
    section = modules or {}
    names = [*section.get("imports", ())]
    for path in recipe_files(recipe):
        names += _assigned(path, "custom_imports")
    finder = ModuleFinder(path=[os.path.abspath(section.get("folder") or "."), os.getcwd()])
    for name in names:
        # A module that is not there is an installed one, or its import fails later with a message.
        # The same is true of wrong syntax.
        with contextlib.suppress(ImportError, SyntaxError):
            finder.import_hook(name)
    files = {name: getattr(module, "__file__", None) for name, module in finder.modules.items()}
    return {name: digest(file, "sha256").value for name, file in sorted(files.items()) if file}


def recipe_files(recipe: str | os.PathLike) -> list[str]:
    """List the paths of an MMEngine config and of all its bases, as `_base_ = [...]` names them.

    Bases may have bases, too. A file that cannot be read is listed as well.
    """
    files = [os.path.abspath(recipe)]
    for file in files:  # The loop also walks the files that it adds.
        bases = [os.path.join(os.path.dirname(file), text) for text in _assigned(file, "_base_")]
        files += [path for path in map(os.path.abspath, bases) if path not in files]
    return files


def _assigned(path: str, variable: str) -> Iterator[str]:
    """Yield the texts in the value that a Python file assigns to a variable at its top."""
    # MMEngine itself reports a config that cannot be read.
    with contextlib.suppress(OSError, ValueError, SyntaxError):
        for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == variable:
                    constants = [p.value for p in ast.walk(value) if isinstance(p, ast.Constant)]
                    yield from (text for text in constants if isinstance(text, str))
