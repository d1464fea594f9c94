"""What is said about one input."""

from dataclasses import dataclass

WRONG, MISSING, NOTE, OK = "WRONG", "MISSING", "note", "ok"
# A line has so many names at most.
SHOWN = 3


@dataclass(frozen=True)
class Line:
    """What is said about an input.

    Attributes:
        state: `WRONG` stops every run, `MISSING` one that needs the file; `NOTE` and `OK` none.
        topic: The section of the config that names the input.
        words: The file, what is wrong with it, and what to do.
    """

    state: str
    topic: str
    words: str


def some(names: list[str]) -> str:
    """The first of several names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
