"""What a rule says: on the terminal and, line by line, in its log; and how it ends on bad input."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from epic100.base.errors import EpicError, last_line

PLAIN_SECONDS = 10.0
tqdm.monitor_interval = 0  # its thread could hold a lock while a loader's worker is forked


class _Tee:
    """Write to several streams, whole lines at once, so that those of jobs side by side do not mix.
    `Progress` draws its bars past it, on the real stderr; a line moves them down."""

    def __init__(self, *streams: TextIO):
        self._streams = streams
        self._begun = ""
        self._pid = os.getpid()

    def write(self, text: str) -> int:
        lines, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline and os.getpid() == self._pid:
            with tqdm.external_write_mode(file=sys.__stderr__):
                self._write(lines + newline)
        elif newline:  # of a loader's worker, which has no bar and must not wait for one
            self._write(lines + newline)
        return len(text)

    def finish(self) -> None:
        """Write what no line's end came after."""
        if self._begun:
            self._write(self._begun)

    def _write(self, text: str) -> None:
        for stream in self._streams:
            stream.write(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._streams[0].fileno()


_log: TextIO | None = None  # the rule's log while `rule_log` is open


@contextmanager
def rule_log(path: str | os.PathLike) -> Iterator[None]:
    """Copy stdout and stderr to the rule's log; end in one clear line on an EpicError.

    Appends, since a retry must not wipe what the attempt before it said.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    global _log
    out, err = sys.stdout, sys.stderr
    with path.open("a", encoding="utf-8", buffering=1) as log:
        log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()}\n")
        # stdout of a job belongs to whoever asked for it (--dag); people read stderr.
        sys.stdout = sys.stderr = tee = _Tee(err, log)
        _log = log
        try:
            yield
        except EpicError as error:
            print(last_line(error))
            sys.exit(1)
        except Exception:
            log.write(traceback.format_exc())  # Python itself tells it on stderr
            raise
        finally:
            tee.finish()
            sys.stdout, sys.stderr, _log = out, err, None


class Progress:
    """Progress of long work: a bar on a terminal; elsewhere, and in the rule's log, plain lines.

    A line comes every 10 s. `total` and `update` count `unit`; rate and time left are worked out
    from them.
    """

    def __init__(self, label: str, total: float, unit: str):
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self._started = self._said = time.monotonic()
        terminal = sys.__stderr__ is not None and sys.__stderr__.isatty()
        self._bar = (
            tqdm(total=total, unit=f" {unit}", desc=label, file=sys.__stderr__, leave=False)
            if terminal
            else None
        )

    def update(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` of the unit; `note` is shown beside the numbers."""
        self.done += amount
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(amount)
        if time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            # Beside a bar, lines go past the terminal, into the log alone.
            if self._bar is None:
                print(self.line(note), flush=True)
            elif _log is not None:
                print(self.line(note), file=_log, flush=True)

    def line(self, note: str = "") -> str:
        """The state in words: done, rate and time left."""
        spent = max(time.monotonic() - self._started, 1e-9)
        rate = self.done / spent
        left = tqdm.format_interval(max(self.total - self.done, 0) / rate) if rate else "?"
        text = f"{self.label}: {self.done:.0f}/{self.total:.0f} {self.unit}, {rate:.1f}/s"
        return f"{text}, {left} left{', ' + note if note else ''}"

    def close(self) -> None:
        """Take the bar away and say the total in one line."""
        if self._bar is not None:
            self._bar.close()
        spent = time.monotonic() - self._started
        print(f"{self.label}: {self.done:.0f} {self.unit} in {spent:.1f} s", flush=True)
