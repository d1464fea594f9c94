"""Durations in words for people: on pages, in logs and on the screen."""

UNITS = (("days", 86400), ("hours", 3600), ("minutes", 60))


def time_unit(seconds: float) -> tuple[str, int]:
    """Return the unit that suits a duration, as its name and its length in seconds.

    It is the largest unit of which the duration has at least two: 90 minutes are `minutes`.
    """
    return next(((unit, size) for unit, size in UNITS if seconds >= 2 * size), ("seconds", 1))


def in_words(seconds: float) -> str:
    """Format a duration in days, hours, minutes or seconds: `45 seconds`, `2.5 hours`."""
    unit, unit_seconds = time_unit(seconds)
    decimals = 0 if unit == "seconds" else 1
    return f"{seconds / unit_seconds:.{decimals}f} {unit}"
