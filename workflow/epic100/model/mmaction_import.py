"""Import MMAction2's models and MMEngine's configs without errors: import this module first.

The wheel and sdist of mmaction2 1.2.0 do not have the folder `mmaction/models/localizers/drn`, but
its `__init__` imports it, so `import mmaction.models` fails. If the folder is missing, two empty
modules replace it, and the localizer DRN is None. Nothing in site-packages is changed, and a fixed
release needs no change here.

If `transformers` is installed, MMAction2 also imports VindLU (video and text). VindLU needs `timm`
and a `transformers` before 5, and nothing here uses it. So MMAction2 is told that `transformers` is
not installed.
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import mmaction
from mmaction.registry import MODELS
from mmengine.config import Config  # noqa: F401
from mmengine.registry import init_default_scope

FOLDER = Path(mmaction.__file__).parent / "models/localizers/drn"
PACKAGE = "mmaction.models.localizers.drn"

if not FOLDER.is_dir():
    # `import mmaction.models` finds these modules in `sys.modules`, and opens no files.
    for name in (PACKAGE, f"{PACKAGE}.drn"):
        vars(sys.modules.setdefault(name, ModuleType(name)))["DRN"] = None

with warnings.catch_warnings():
    # The warnings are about compiled operators, which mmcv-lite does not have. No recognizer here
    # needs them.
    warnings.filterwarnings("ignore", message=".*mmcv-lite.*")
    warnings.filterwarnings("ignore", message=".*Fail to import.*")
    from mmaction.utils import dependency

    dependency.WITH_MULTIMODAL = False
    from mmaction import models  # noqa: F401


def build(spec: Mapping[str, Any]) -> Any:
    """Build a model, or one of its modules, from its config, as MMAction2 does."""
    init_default_scope("mmaction")
    return MODELS.build(spec)
