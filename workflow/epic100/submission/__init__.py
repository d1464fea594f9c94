"""The submission: what the files hold, how they are written, read, checked and exported."""

from epic100.submission.files import (
    build,
    expected_ids,
    read_pickle,
    read_pt,
    write_pt,
    write_zip,
)

__all__ = ["build", "expected_ids", "read_pickle", "read_pt", "write_pt", "write_zip"]
