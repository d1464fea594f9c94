"""The one exception that users meet: what is wrong, where, and what to do about it."""

import re

from epic100.base.names import printable


class EpicError(ValueError):
    """Bad input, told in one message: file, line or id, what was expected, what to do.

    A message quotes other people's files, so their control characters are shown as escapes.
    """

    def __init__(self, *args: object):
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))


def words(error: EpicError) -> str:
    """The message alone: out of a loader's worker it comes behind that process's traceback."""
    return re.split(r"(?m)^epic100[.\w]*Error: ", str(error))[-1].strip()
