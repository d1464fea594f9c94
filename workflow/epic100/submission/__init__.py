"""Submission files: their layout, and how to write, read, check and export them."""
