"""The one exception that users meet: what is wrong, where, and what to do about it."""

import re


class EpicError(ValueError):
    """Bad input, told in one message: file, line or id, what was expected, what to do."""


def words(error: EpicError) -> str:
    """The message alone: out of a loader's worker it comes behind that process's traceback."""
    return re.split(r"(?m)^epic100[.\w]*Error: ", str(error))[-1].strip()
