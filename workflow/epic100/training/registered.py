"""Import this module to register everything that a training builds by name."""

import epic100.clips.dataset
import epic100.model.registered
import epic100.training.checkpoint_hook
import epic100.training.hooks
import epic100.training.loop
import epic100.training.telemetry
import epic100.training.validation  # noqa: F401
