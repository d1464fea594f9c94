"""Lines that stay, and below them, on a terminal, a block that is renewed in place.

Rules print as they run, each into its own log and on stderr; on the screen that would tear the
block apart. So the screen is taken from stderr, and what is printed there goes into a file.
"""

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

CLEAR_BELOW = "\x1b[J"


OUTPUT = Path(".snakemake/epic100-output.log")


class Screen:
    """The terminal, or file, that stderr was, for the time until `give_back`."""

    def __init__(self, output: Path = OUTPUT):
        sys.stderr.flush()
        self.stream = os.fdopen(os.dup(2), "w", encoding="utf-8")
        output.parent.mkdir(exist_ok=True)
        with output.open("ab") as file:
            os.dup2(file.fileno(), 2)

    def give_back(self) -> None:
        """Let stderr be the screen again."""
        sys.stderr.flush()
        self.stream.flush()
        os.dup2(self.stream.fileno(), 2)
        self.stream.close()


class Display:
    """A stream of lines with a block at its end."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._block: list[str] = []
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Add lines that stay."""
        with self._lock:
            self._stream.write(self._erased() + f"{text}\n" + "".join(self._block))
            self._stream.flush()

    def renew(self, lines: Sequence[str]) -> None:
        """Put `lines` in the block's place; nothing happens where there is no terminal."""
        if not self.is_terminal:
            return
        size = shutil.get_terminal_size()
        kept = [f"{line[: size.columns - 1]}\n" for line in lines[: size.lines - 1]]
        with self._lock:
            self._stream.write(self._erased() + "".join(kept))
            self._stream.flush()
            self._block = kept

    def _erased(self) -> str:
        return f"\x1b[{len(self._block)}A\r{CLEAR_BELOW}" if self._block else ""
