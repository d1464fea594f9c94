"""Import this to register, by name, the dataset, its decoding steps and collate."""

import epic100.clips.blank
import epic100.clips.collate
import epic100.clips.dataset
import epic100.clips.transforms  # noqa: F401
