"""Makes `mmaction.models` of the published MMAction2 importable: import this module first.

The wheel and sdist of mmaction2 1.2.0 do not have the folder `mmaction/models/localizers/drn`, but
its `__init__` imports it, so `import mmaction.models` fails. Where the folder is missing, the two
modules in it are placeholders. Nothing in site-packages is changed, and a fixed release needs no
change here.

Where `transformers` is installed, it also imports VindLU (video and text), which needs `timm` and a
`transformers` before 5, and nothing here uses. So it is told that there is none.
"""

import sys
import warnings
from pathlib import Path
from types import ModuleType

import mmaction

FOLDER = Path(mmaction.__file__).parent / "models/localizers/drn"
PACKAGE = "mmaction.models.localizers.drn"


class DRN:
    """Placeholder for a localizer that is missing in the published wheel."""

    def __init__(self, *args: object, **kwargs: object):
        raise NotImplementedError("DRN is not part of the published mmaction2 1.2.0")


if not FOLDER.is_dir():
    for name in (PACKAGE, f"{PACKAGE}.drn"):
        vars(sys.modules.setdefault(name, ModuleType(name)))["DRN"] = DRN

with warnings.catch_warnings():
    # The warnings are about compiled operators, which mmcv-lite lacks. No recognizer here needs
    # them.
    warnings.filterwarnings("ignore", message=".*mmcv-lite.*")
    warnings.filterwarnings("ignore", message=".*Fail to import.*")
    from mmaction.utils import dependency

    dependency.WITH_MULTIMODAL = False
    from mmaction import models  # noqa: F401
