"""Makes `mmaction.models` of the published MMAction2 importable: import this module first.

The wheel and sdist of mmaction2 1.2.0 do not have the folder `mmaction/models/localizers/drn`, but
its `__init__` imports it, so `import mmaction.models` fails. A finder at the *end* of
`sys.meta_path` provides placeholders for these two modules, only if the real ones are missing. It
changes nothing in site-packages, and a fixed release needs no change here.

Where `transformers` is installed, it also imports VindLU (video and text), which needs `timm` and a
`transformers` before 5, and nothing here uses. So it is told that there is none.
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
        """Return None: Python then creates the module."""

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == MODULE:

            class DRN:
                """Placeholder for a localizer that is missing in the published wheel."""

                def __init__(self, *args: object, **kwargs: object):
                    raise NotImplementedError("DRN is not part of the published mmaction2 1.2.0")

            vars(module)["DRN"] = DRN


if not any(isinstance(finder, _DrnPlaceholder) for finder in sys.meta_path):
    sys.meta_path.append(_DrnPlaceholder())

with warnings.catch_warnings():
    # mmcv-lite has no compiled operators, and no recognizer here needs them.
    warnings.filterwarnings("ignore", message=".*mmcv-lite.*")
    warnings.filterwarnings("ignore", message=".*Fail to import.*")
    from mmaction.utils import dependency

    dependency.WITH_MULTIMODAL = False
    from mmaction import models  # noqa: F401
