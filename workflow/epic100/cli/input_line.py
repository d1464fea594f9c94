"""A line about one input of a run."""

from dataclasses import dataclass

WRONG, MISSING, NOTE, OK = "WRONG", "MISSING", "note", "ok"
# Maximum number of files, ids or participants that a line names.
SHOWN = 3


@dataclass(frozen=True)
class Line:
    """A line about one input of a run, as `epic100 check` prints it.

    Attributes:
        state: `WRONG` stops every run, `MISSING` one that needs the file; `NOTE` and `OK` none.
        topic: The section of the config that names the input.
        words: The file, what is wrong with it, and what to do.
    """

    state: str
    topic: str
    words: str


def some(names: list[str]) -> str:
    """Write several names as a text with at most `SHOWN` of them: `a, b, c and 4 more`."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
