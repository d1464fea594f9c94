"""Importing this registers what a model file is built from, by name."""

import epic100.model.heads
import epic100.model.loss
import epic100.model.mmaction_import
import epic100.model.recognizer  # noqa: F401
