"""Timelines: a trained model over a full video, from clips at a stride to segments with names."""
