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


class Screen:
    """The terminal or file that stderr was connected to, until `give_back`.

    Args:
        output: The file that stderr is redirected to.
    """

    def __init__(self, output: Path = OUTPUT):
        sys.stderr.flush()
        self.stream = os.fdopen(os.dup(2), "w", encoding="utf-8")
        output.parent.mkdir(exist_ok=True)
        with output.open("ab") as file:
            os.dup2(file.fileno(), 2)

    def give_back(self) -> None:
        """Connect stderr to the screen again."""
        sys.stderr.flush()
        self.stream.flush()
        os.dup2(self.stream.fileno(), 2)
        self.stream.close()


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

    def _erased(self) -> str:
        return f"\x1b[{len(self._block)}A\r{CLEAR_BELOW}" if self._block else ""
