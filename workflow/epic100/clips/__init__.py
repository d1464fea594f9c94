"""Clips for MMAction2: the dataset of segments, its decoding steps and its sampler."""
