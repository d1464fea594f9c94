"""Compares two models on the same segments: the difference and its confidence interval."""
