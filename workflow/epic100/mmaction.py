"""All that this project registers with MMAction2: model, dataset, transforms, loop, hooks, metric.

Use it in an MMEngine config: `custom_imports = dict(imports=["epic100.mmaction"])`. Model files
contain this name, so it must not change. No module of the library imports this one. What training
builds by name is in `epic100.training.registered`. What prediction builds by name is in
`clips.dataset` and `model.registered`.
"""

import epic100.training.registered  # noqa: F401
