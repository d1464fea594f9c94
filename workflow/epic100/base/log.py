"""Where the library's records go: the terminal and, line by line, the log of a rule.

Modules report through `logging.getLogger(__name__)`. A rule's script opens `rule_log`; a process
that a rule starts calls `log_to_stdout`, and the rule passes its lines on.
"""

import contextlib
import io
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import TextIO

from tqdm import tqdm

from epic100.base.errors import SIGN, EpicError

# `log.info(text, extra=FILE_ONLY)`: for the log alone, since the terminal shows it another way.
FILE_ONLY = {"file_only": True}

log = logging.getLogger(__name__)


@contextlib.contextmanager
def rule_log(path: str | os.PathLike[str]) -> Iterator[None]:
    """Send records to stderr and to the rule's log; end in one clear line on an EpicError.

    Appends, since a retry must not wipe what the attempt before it reported. What other libraries
    print, and what torchrun passes on from its processes, goes the same way. stdout stays empty: it
    belongs to whoever asked for it (`--dag`).
    """
    terminal, file = _Terminal(sys.stderr), _File(path)
    file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()}")
    _add(terminal, file)
    printed = _Printed(terminal.stream)
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
        file.write(traceback.format_exc().rstrip())
        log.error(
            f"{error.filename or 'a file of this rule'}: {error.strerror or error}; the system "
            f"refuses it, {path} has where: look at the disk, then run again"
        )
        sys.exit(1)
    except Exception:
        file.write(traceback.format_exc().rstrip())  # Python itself shows it on stderr
        raise
    finally:
        printed.finish()
        for handler in (terminal, file):
            logging.getLogger().removeHandler(handler)
            handler.close()


def log_to_stdout() -> None:
    """Send records to stdout, for a process whose lines another one passes on."""
    _add(_Terminal(sys.stdout))


def _add(*handlers: logging.Handler) -> None:
    """To the root, where warnings of other libraries arrive too."""
    logging.getLogger("epic100").setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(_Format())
        logging.getLogger().addHandler(handler)


class _Format(logging.Formatter):
    """The message alone; warnings and errors begin with what they are."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = {logging.WARNING: "WARNING: ", logging.ERROR: SIGN}.get(record.levelno, "")
        return prefix + super().format(record)


class _Terminal(logging.StreamHandler[TextIO]):
    """Whole lines, so that those of jobs side by side do not mix; the bar of `Progress` is drawn on
    the real stderr and moves down for them."""

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._pid = os.getpid()
        self.addFilter(lambda record: not hasattr(record, "file_only"))

    def emit(self, record: logging.LogRecord) -> None:
        # A loader's worker has no bar and must not wait for one.
        ours = os.getpid() == self._pid
        with tqdm.external_write_mode(file=sys.__stderr__) if ours else contextlib.nullcontext():
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: a terminal that is gone stops no work."""


class _File(logging.Handler):
    """Appends to a rule's log, unbuffered: a forked worker has nothing to write a second time."""

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__()
        self._file = -1
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record))

    def write(self, line: str) -> None:
        """One whole line. Where the disk takes none, the terminal alone shows it."""
        with contextlib.suppress(OSError):
            os.write(self._file, f"{line}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._file)
        super().close()


class _Printed(io.TextIOBase):
    """In place of stdout and stderr: what is printed becomes records, whole lines at once."""

    def __init__(self, stream: TextIO):
        self._stream, self._begun = stream, ""

    def write(self, text: str) -> int:
        lines, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            log.info(lines)
        return len(text)

    def finish(self) -> None:
        """Report what no line's end came after."""
        if self._begun:
            log.info(self._begun)

    def fileno(self) -> int:
        return self._stream.fileno()
