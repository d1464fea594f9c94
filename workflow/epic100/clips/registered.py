"""Importing this registers what clips are read with, by name: dataset, decoding steps, sampler."""

import epic100.clips.collate
import epic100.clips.dataset
import epic100.clips.sampling
import epic100.clips.transforms  # noqa: F401
