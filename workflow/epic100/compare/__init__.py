"""Two models on the same segments: how far apart they are, and how sure that is."""
