"""Import this to register, by name, the classes that model files use."""

import epic100.model.heads
import epic100.model.recognizer  # noqa: F401
