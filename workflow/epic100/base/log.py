"""Log records of a job on the terminal and in the rule's log, and its progress.

Modules report through `logging.getLogger(__name__)`. A rule's script opens `rule_log`. A process
started by a rule calls `log_to_stdout`, and the rule passes its lines on.
"""

import contextlib
import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from epic100.base.errors import EpicError, printable

if TYPE_CHECKING:
    from tqdm import tqdm

# `log.info(text, extra=FILE_ONLY)` goes to the log file only; the terminal shows it another way.
FILE_ONLY = {"file_only": True}
# Seconds between two lines that tell the progress, where there is no bar.
PLAIN_SECONDS = 10.0

log = logging.getLogger(__name__)


@contextlib.contextmanager
def rule_log(path: str | os.PathLike[str]) -> Iterator[None]:
    """Send log records to stderr and to the rule's log; end with one clear line on an EpicError.

    The log is appended to, so that a retry keeps what the attempt before it reported. Output that
    other libraries print, and output that torch forwards from processes, takes the same path.
    stdout stays empty for commands that print to it (`--dag`).

    Args:
        path: The rule's log file.

    Raises:
        SystemExit: Code 1 after an EpicError or OSError, code 130 after Ctrl-C. The error has been
            logged.
    """
    terminal = _TerminalHandler(sys.stderr)
    file = _LineHandler(_open_log(path))
    _add_handlers(terminal, file)
    log.info(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()}", extra=FILE_ONLY)
    printed = _PrintedStream(terminal.stream)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    except EpicError as error:
        log.error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("stopped by Ctrl-C; the same command goes on from what is done")
        sys.exit(130)
    except OSError as error:
        log.info(traceback.format_exc().rstrip(), extra=FILE_ONLY)
        log.error(
            f"{error.filename or 'a file of this rule'}: {error.strerror or error}; the system "
            f"rejects it, {path} has where: check the disk, then run again"
        )
        sys.exit(1)
    except Exception:
        # Python itself prints it to stderr.
        log.info(traceback.format_exc().rstrip(), extra=FILE_ONLY)
        raise
    finally:
        printed.finish()
        for handler in (terminal, file):
            logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):  # On a full disk, the log is incomplete.
            file.stream.close()


def log_to_stdout() -> None:
    """Send log records to stdout, for a process whose output another process forwards."""
    _add_handlers(_TerminalHandler(sys.stdout))


def _add_handlers(*handlers: logging.Handler) -> None:
    """Add handlers to the root logger, which also receives warnings of other libraries."""
    logging.getLogger("epic100").setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(_PlainFormatter())
        logging.getLogger().addHandler(handler)


class _PlainFormatter(logging.Formatter):
    """Format a record as its message, safe for a terminal; warnings and errors get a prefix."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, e.g. `WARNING: disk almost full`."""
        prefix = {logging.WARNING: "WARNING: ", logging.ERROR: "error: "}.get(record.levelno, "")
        return printable(prefix + super().format(record))


class _LineHandler(logging.StreamHandler[TextIO]):
    """Write records as complete lines, so that lines of parallel jobs do not mix."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: a closed terminal or a full disk must not stop the work."""


class _TerminalHandler(_LineHandler):
    """Show records on the terminal, but not those for the file only (`FILE_ONLY`).

    The bar of `Progress` is drawn on the real stderr and moves down for each line.
    """

    def __init__(self, stream: TextIO):
        """Write to this stream, and note the process that may have a bar."""
        super().__init__(stream)
        self._pid = os.getpid()
        self.addFilter(lambda record: not hasattr(record, "file_only"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record above the progress bar, if this process has one."""
        # A data loader worker has no bar and must not wait for its lock.
        has_bar = os.getpid() == self._pid
        with (
            _bar_class().external_write_mode(file=sys.__stderr__)
            if has_bar
            else contextlib.nullcontext()
        ):
            super().emit(record)


def _open_log(path: str | os.PathLike[str]) -> TextIO:
    """Open a rule's log to append to, unbuffered: a forked worker must not write a line twice."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        file = os.open(path, flags, 0o666)
    except OSError:  # The work goes on, and the terminal shows all records.
        file = os.open(os.devnull, os.O_WRONLY)
    return io.TextIOWrapper(
        io.FileIO(file, "w"), encoding="utf-8", errors="backslashreplace", write_through=True
    )


class _PrintedStream(io.TextIOBase):
    """Turn text that is printed to stdout or stderr into log records, in complete lines."""

    def __init__(self, stream: TextIO):
        """Take text in place of this stream."""
        self._stream, self._incomplete_line = stream, ""

    def write(self, text: str) -> int:
        """Take printed text, and log the lines that are complete."""
        # Complete lines are logged now. The rest waits for its newline.
        lines, newline, self._incomplete_line = (self._incomplete_line + text).rpartition("\n")
        if newline:
            log.info(lines)
        return len(text)

    def finish(self) -> None:
        """Log a last line that has no newline."""
        if self._incomplete_line:
            log.info(self._incomplete_line)

    def fileno(self) -> int:
        """Return the descriptor of the real stream, for libraries that write to it directly."""
        return self._stream.fileno()


def _bar_class() -> "type[tqdm]":
    """Return tqdm's class of progress bars.

    It is imported here, because the rules are also read in Snakemake's own environment, which has
    no tqdm.
    """
    from tqdm import tqdm

    # The monitor's thread could hold a lock when a loader worker is forked.
    tqdm.monitor_interval = 0
    return tqdm


class Progress:
    """Show the progress of long work: a bar on a terminal; lines elsewhere and in the rule's log.

    A line is logged every 10 s, with the rate and the time left.

    Args:
        label: Name of the work.
        total: Amount of work in `unit`.
        unit: What is counted, e.g. "frames".
    """

    def __init__(self, label: str, total: float, unit: str):
        """Start the clock, and show the bar on a terminal."""
        self.label, self.total, self.unit = label, total, unit
        self.done, self._lock = 0.0, threading.Lock()
        self._started = self._reported = time.monotonic()
        self._bar = _bar_class()(
            total=total,
            unit=f" {unit}",
            desc=label,
            file=sys.__stderr__,
            leave=False,
            disable=None,  # With None, it draws on terminals only.
        )

    def expect(self, total: float) -> None:
        """Set a new total amount of work."""
        self.total = self._bar.total = total

    def update(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` of the unit, from any thread; `note` is shown next to the numbers."""
        with self._lock:
            self.done += amount
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(amount)
            if time.monotonic() - self._reported > PLAIN_SECONDS:
                self._reported = time.monotonic()
                # If the bar is on the screen, the line goes to the log file only.
                log.info(self.line(note), extra=None if self._bar.disable else FILE_ONLY)

    def line(self, note: str = "") -> str:
        """Return the current state: `scan P01: 640/1280 frames, 64.0/s, 00:10 left`."""
        spent = max(time.monotonic() - self._started, 1e-9)
        rate = self.done / spent
        time_left = (
            self._bar.format_interval(max(self.total - self.done, 0) / rate) if rate else "?"
        )
        return (
            f"{self.label}: {self.done:.0f}/{self.total:.0f} {self.unit}, {rate:.1f}/s, "
            f"{time_left} left{', ' + note if note else ''}"
        )

    def close(self) -> None:
        """Remove the bar and log the total in one line."""
        self._bar.close()
        spent = time.monotonic() - self._started
        log.info(f"{self.label}: {self.done:.0f} {self.unit} in {spent:.1f} s")
