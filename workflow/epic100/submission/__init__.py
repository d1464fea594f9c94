"""Submission files: their layout, and how to write, read, check and export them."""

from epic100.submission.files import build, expected_ids, read_pickle, read_pt, write_pt
from epic100.submission.zips import write_zip

__all__ = ["build", "expected_ids", "read_pickle", "read_pt", "write_pt", "write_zip"]
