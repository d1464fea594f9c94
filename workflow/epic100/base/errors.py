"""The errors that users see, and the words in their messages: names and paths."""

import ipaddress
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence

# The maximum number of characters of a message. A longer one is cut.
LONGEST = 10_000


def import_error(error: ImportError) -> str:
    """Describe in one line a package that is missing or broken, and what to do.

    Args:
        error: The error, as it was caught.
    """
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{error.name}: not installed for {sys.executable}; expected the Python of `make "
            "install`: .venv/bin/epic100, or activate the environment"
        )
    *_, last = traceback.extract_tb(error.__traceback__)
    return (
        f"{last.filename}: cannot be imported by {sys.executable}; PYTHONPATH, as modules of a "
        f"cluster set it, is {os.environ.get('PYTHONPATH', '')!r}: unset it, or `module purge`"
    )


class EpicError(ValueError):
    """Bad input. One message names the file, line or id, what was expected and what to do.

    The message may repeat text of a file, so it is made safe for a terminal, and cut.

    Message and class survive pickling, and torch's data loader.
    """

    def __init__(self, message: object) -> None:
        """Store the message as one that is safe to print, and cut it if it is very long.

        Args:
            message: The message. If a worker of torch's data loader has raised the error, the data
                loader raises it again with the worker's complete traceback as its message.
        """
        # In a worker's traceback, the message stands after the name of the class. Any other text
        # has no such prefix and is taken as it is.
        class_prefix = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        text = str(message).rpartition(class_prefix)[2].strip()
        super().__init__(printable(text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."))


def some(names: Sequence[str], shown: int = 3) -> str:
    """Write several names as a text with at most `shown` of them: `a, b, c and 4 more`."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


class DiskError(EpicError):
    """The disk failed or is full. The data that was read or written may be fine."""


class BrokenFile(EpicError):
    """A file that can be read but has the wrong content: it is cut, altered, or of another type."""


# Ids of other people's files become file names, Snakemake wildcards and parts of the command line
# that an executor passes to a shell. URLs are shown in a browser. So an id is a plain name, and a
# URL has no character with a special meaning in a shell or an HTML page.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
NAME_WORDS = "a name of up to 100 letters, digits, _ and - that begins with a letter or digit"
# The characters of RFC 3986, but no user name and no apostrophe. All other characters must be
# written as %XX. A host is an IPv6 address in brackets, or labels with dots between them.
URL = re.compile(
    r"https?://(\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*\.?)"
    r"(:(?P<port>[0-9]{1,5}))?([/?#][A-Za-z0-9._~:/?#@!$&()*+,;=%-]*)?"
)
URL_WORDS = "http:// or https://, a host and a path, without spaces, quotes or brackets"
# Control characters, line breaks among them: no name of a file should have one.
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MD5 = re.compile(r"[0-9A-Fa-f]{32}")


def is_url(text: str) -> bool:
    """Whether `text` is a URL that this workflow may download from (at most 2000 characters)."""
    match = URL.fullmatch(text) if len(text) <= 2000 else None
    if match is None or int(match["port"] or 80) not in range(1, 1 << 16):
        return False
    try:
        ipaddress.IPv6Address(match["ipv6"] or "::")
    except ValueError:
        return False
    return True


def whole_number(text: str) -> int | None:
    """Parse a number of 1 to 18 ASCII digits, which fits into 63 bits; None for anything else."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def printable(text: str) -> str:
    """Make `text` safe for a terminal, a log or a figure.

    Control characters and characters that change the writing direction become escapes. Newlines and
    tabs stay.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def shown(path: str | os.PathLike) -> str:
    """Return the path of a file for a message of one line: line breaks and tabs become escapes."""
    return printable(os.fspath(path)).replace("\n", "\\n").replace("\t", "\\t")


def meant(word: str, known_names: Iterable[str]) -> str:
    """Return the known name that is nearest to a mistyped word; "" if none is near.

    Upper and lower case do not matter.
    """
    from difflib import get_close_matches  # Only a mistake pays for its import.

    name_of_lower = {name.lower(): name for name in known_names}
    nearest = get_close_matches(word.lower(), name_of_lower, n=1)
    return name_of_lower[nearest[0]] if nearest else ""


def did_you_mean(word: str, known_names: Iterable[str], written: str = "{}") -> str:
    """Return the end of a message, `; did you mean train?`, or "" if no known name is near.

    Args:
        word: The word that the user typed.
        known_names: The names that it may stand for.
        written: A format for the suggested name, e.g. `--{}`.
    """
    name = meant(word, known_names)
    return f"; did you mean {written.format(name)}?" if name else ""


def nearest_file(path: str | os.PathLike[str], other: str | os.PathLike[str] = ".") -> str:
    """Return the end of a message that suggests an existing file for a missing one, or "".

    Args:
        path: The missing file. The files in its folder are suggested.
        other: Another folder, to which the path may be relative.
    """
    folder, name = os.path.split(path)
    parents = [folder or ".", os.path.join(other, folder)]
    entries = [entry for parent in parents if os.path.isdir(parent) for entry in os.listdir(parent)]
    return did_you_mean(name, entries, os.path.join(folder, "{}"))


"""Durations in words for people: on pages, in logs and on the screen."""
