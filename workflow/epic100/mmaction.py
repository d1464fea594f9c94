"""All that this project registers with MMAction2: model, dataset, transforms, loop, hooks, metric.

In an MMEngine config: `custom_imports = dict(imports=["epic100.mmaction"])`. Model files hold this
name, so it stays. No module of the library imports this one: what a training builds by name stands
in `epic100.training.registered`, what a prediction builds in `clips.registered` and
`model.registered`.
"""

import epic100.training.registered  # noqa: F401
