"""The one exception that users meet: what is wrong, where, and what to do about it."""


class EpicError(ValueError):
    """Bad input, told in one message: file, line or id, what was expected, what to do."""
