"""Lines that stay on the screen, and below them, on a terminal, a block updated in place.

Rules write to their own logs and to stderr while they run; on the screen this would break the
block. So the display takes over the terminal of stderr, and stderr goes to a file instead.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

# The text that rules write to stderr while they run goes to this file.
OUTPUT = Path(".snakemake/epic100-output.log")
# Programs that a rule starts write to this file descriptor.
STDERR = 2


def take_screen() -> TextIO:
    """Redirect stderr to `OUTPUT`, and return the terminal or file that it was connected to."""
    sys.stderr.flush()
    # The new descriptor still leads to the screen after 2 leads to the file.
    screen = os.fdopen(os.dup(STDERR), "w", encoding="utf-8")
    OUTPUT.parent.mkdir(exist_ok=True)
    with OUTPUT.open("ab") as file:
        os.dup2(file.fileno(), STDERR)
    return screen


class Display:
    """Lines on a stream, and on a terminal a block below them that is updated in place.

    Args:
        stream: The terminal or file, as `take_screen` returns it.
    """

    def __init__(self, stream: TextIO):
        """Begin without a block."""
        self._stream = stream
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._console = Console(file=stream, force_terminal=self.is_terminal)
        # It does not draw by itself, only in `renew`, and it leaves stdout and stderr as they are.
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def say(self, text: str) -> None:
        """Print lines that stay, above the block."""
        self._console.out(text, highlight=False)

    def renew(self, lines: Sequence[str]) -> None:
        """Replace the block with `lines`; does nothing if the stream is not a terminal."""
        if self.is_terminal:
            self._live.start()
            self._live.update(Text("\n").join(map(Text, lines)), refresh=True)

    def give_back(self) -> None:
        """Remove the block, connect stderr to the stream again, and close the stream."""
        self._live.stop()
        sys.stderr.flush()
        self._stream.flush()
        os.dup2(self._stream.fileno(), STDERR)
        self._stream.close()
