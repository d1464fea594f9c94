"""All that this project registers with MMAction2: model, dataset, transforms, loop, hooks, metric.

Use it in an MMEngine config: `custom_imports = dict(imports=["epic100.mmaction"])`. Model files
contain this name, so it must not change. No module of the library imports this one.
"""

from typing import Any

import epic100.clips.dataset
import epic100.model.registered
import epic100.scoring.pair_metric
import epic100.training.hooks
import epic100.training.resume  # noqa: F401
from epic100.model.mmaction_import import Config
from epic100.model.model_file import load_model
from epic100.model.untrusted import open_untrusted


def open_recognizer(path: str) -> Any:
    """Open a model file of any origin for MMAction2's `inference_recognizer`, running none of it.

    Raises:
        EpicError: The model cannot be built from the file.
    """
    model, pipeline = open_untrusted(load_model(path), path)
    model.cfg = Config({"default_scope": "mmaction", "test_pipeline": pipeline})
    return model
