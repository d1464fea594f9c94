"""A folder to look at in a browser: segments, predictions, clips and timelines of a run."""
