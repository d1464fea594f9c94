"""How a time is written for people: on pages, in logs and on the screen."""

UNITS = (("days", 86400), ("hours", 3600), ("minutes", 60))


def time_unit(seconds: float) -> tuple[str, int]:
    """Return the name and length in seconds of a unit that suits this time: the largest that it
    has two of."""
    return next(((unit, size) for unit, size in UNITS if seconds >= 2 * size), ("seconds", 1))


def in_words(seconds: float) -> str:
    """Format a time in days, hours, minutes or seconds."""
    unit, size = time_unit(seconds)
    return f"{seconds / size:.{int(size > 1)}f} {unit}"
