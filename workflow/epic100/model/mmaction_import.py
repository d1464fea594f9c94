"""Import MMAction2's models as published: import this before `mmaction.models`.

The wheel and sdist of mmaction2 1.2.0 leave out the folder `mmaction/models/localizers/drn`, which
its own `__init__` imports, so `import mmaction.models` fails. A finder at the *end* of
`sys.meta_path` serves placeholders for those two modules, and only where the real ones are absent;
nothing in site-packages is changed, and a mended release needs no change here.
"""

import importlib.abc
import importlib.machinery
import sys
import warnings
from types import ModuleType

PACKAGE = "mmaction.models.localizers.drn"
MODULE = f"{PACKAGE}.drn"


class _DrnPlaceholder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in (PACKAGE, MODULE):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname == PACKAGE)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Python's own way will do."""

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == MODULE:

            class DRN:
                """Stands in for a localizer that the published wheel lacks."""

                def __init__(self, *args: object, **kwargs: object):
                    raise NotImplementedError("DRN is not part of the published mmaction2 1.2.0")

            vars(module)["DRN"] = DRN


if not any(isinstance(finder, _DrnPlaceholder) for finder in sys.meta_path):
    sys.meta_path.append(_DrnPlaceholder())

with warnings.catch_warnings():
    # mmcv-lite has no compiled operators; no recognizer here wants one.
    warnings.filterwarnings("ignore", message=".*mmcv-lite.*")
    warnings.filterwarnings("ignore", message=".*Fail to import.*")
    from mmaction import models  # noqa: F401
