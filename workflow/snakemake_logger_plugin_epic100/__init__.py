"""`snakemake --logger epic100`: a screen that says what is going on.

On a terminal one block of lines is renewed in place; elsewhere a line comes every five minutes.
Failures are shown when they happen and once more at the end, with the paths of what was made.
Snakemake's own log file is not touched by this, and a dry run looks as it always does.
"""

import sys
import time
from collections.abc import Collection
from logging import LogRecord

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.board import Board
from snakemake_logger_plugin_epic100.display import Display, Screen
from snakemake_logger_plugin_epic100.ending import ending
from snakemake_logger_plugin_epic100.status import Status

__all__ = ["LogHandler"]

# A job's failure comes with JOB_ERROR; Snakemake's banner around it only repeats the command.
BANNERS = ("RuleException", "CalledProcessError")


class LogHandler(LogHandlerBase):
    """The handler that Snakemake loads; the screen itself is in this package's other modules."""

    def __post_init__(self) -> None:
        """Begin with Snakemake's own form; the screen comes with the first job."""
        common = self.common_settings
        quiet: Collection[Quietness] = common.quiet or ()
        self._plain = ColorizingTextHandler(
            nocolor=common.nocolor,
            stream=sys.stdout if common.stdout else sys.stderr,
            filter=DefaultFilter(
                quiet, common.debug_dag, common.verbose, common.dryrun, common.printshellcmds
            ),
            formatter=DefaultFormatter(quiet, common.show_failed_logs),
        )
        self._status: Status | None = None
        self._screen: Screen | None = None
        self._board = Board()
        self._unsaid: list[str] = []  # errors, for an end without a job's failure

    def emit(self, record: LogRecord) -> None:
        """Take one record of Snakemake."""
        if self.common_settings.dryrun or self.common_settings.verbose:
            self._pass_on(record)
            return
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO and self._status is None:
            self._board.started = time.time()
            self._board.take(event, record)
            self._screen = Screen()
            self._status = Status(self._board, Display(self._screen.stream))
            self._status.start()
        elif self._status is None:
            if event != LogEvent.WORKFLOW_STARTED:
                self._pass_on(record)
        else:
            self._show(event, record)

    def _show(self, event: LogEvent | None, record: LogRecord) -> None:
        assert self._status is not None
        news = self._board.take(event, record)
        for line in news:
            self._status.display.say(line)
        if event == LogEvent.ERROR:
            if getattr(record, "exception", "") in BANNERS:
                self._unsaid.append(record.getMessage())
            else:
                self._status.display.say(_without_banner(record.getMessage()))
        elif (
            event is None
            and record.levelno >= 30
            and record.getMessage()
            or event is None
            and self._board.is_worth_showing(record.getMessage())
        ):
            self._status.display.say(record.getMessage())
        self._status.changed()

    def _pass_on(self, record: LogRecord) -> None:
        if self._plain.filter(record):
            self._plain.emit(record)

    def close(self) -> None:
        """Say how it ended."""
        if self._status is not None:
            self._status.stop()
            if not self._board.failures:
                for text in self._unsaid:
                    self._status.display.say(text)
            for line in ending(self._board):
                self._status.display.say(line)
            self._status = None
        if self._screen is not None:
            self._screen.give_back()
            self._screen = None
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Take the place of Snakemake's own handler."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """The log file stays Snakemake's."""
        return False

    @property
    def has_filter(self) -> bool:
        """Every event is wanted here, whatever `--quiet` says."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Lines are made here."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Not drawn."""
        return False


def _without_banner(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines)
