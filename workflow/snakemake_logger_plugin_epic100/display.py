"""Lines that stay on the screen, and below them, on a terminal, a block updated in place.

Rules write to their own logs and to stderr while they run; on the screen this would break the
block. So the display takes over the terminal of stderr, and stderr goes to a file instead.
"""

import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

CLEAR_BELOW = "\x1b[J"

OUTPUT = Path(".snakemake/epic100-output.log")


def take_screen() -> TextIO:
    """Redirect stderr to `OUTPUT`, and return the terminal or file that it was connected to."""
    sys.stderr.flush()
    screen = os.fdopen(os.dup(2), "w", encoding="utf-8")
    OUTPUT.parent.mkdir(exist_ok=True)
    with OUTPUT.open("ab") as file:
        os.dup2(file.fileno(), 2)
    return screen


class Display:
    """A stream of lines with an updatable block at its end."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._block: list[str] = []
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print lines that stay, above the block."""
        with self._lock:
            self._stream.write(self._erased() + f"{text}\n" + "".join(self._block))
            self._stream.flush()

    def renew(self, lines: Sequence[str]) -> None:
        """Replace the block with `lines`; does nothing if the stream is not a terminal."""
        if not self.is_terminal:
            return
        size = shutil.get_terminal_size()
        wrap = textwrap.TextWrapper(size.columns - 1, subsequent_indent="    ").wrap
        kept = [f"{part}\n" for line in lines for part in wrap(line)][: size.lines - 1]
        with self._lock:
            self._stream.write(self._erased() + "".join(kept))
            self._stream.flush()
            self._block = kept

    def give_back(self) -> None:
        """Connect stderr to the stream again, which `take_screen` has returned."""
        sys.stderr.flush()
        self._stream.flush()
        os.dup2(self._stream.fileno(), 2)
        self._stream.close()

    def _erased(self) -> str:
        return f"\x1b[{len(self._block)}A\r{CLEAR_BELOW}" if self._block else ""
