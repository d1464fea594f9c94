"""Clips for MMAction2: the dataset of segments, its decoding steps, the order of drawing."""
