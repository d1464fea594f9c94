"""Timelines: a trained model over a whole video, from clips at a stride to segments with names."""
