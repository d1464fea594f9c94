"""Import this module to register everything that a training builds by name."""

import epic100.clips.dataset
import epic100.model.registered
import epic100.training.hooks
import epic100.training.loop
import epic100.training.report
import epic100.training.state
import epic100.training.validation  # noqa: F401
