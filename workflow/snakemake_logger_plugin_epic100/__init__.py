"""`snakemake --logger epic100`: show the status of a run on the screen.

On a terminal, one block of lines is updated in place; elsewhere, one line is printed every five
minutes. Failures are shown when they happen and again at the end, with the paths of the results.
Snakemake's own log file is unchanged. Its dry runs are shorter: each job once, with its reason.
"""

import sys
import time
from collections.abc import Collection
from logging import LogRecord
from typing import Any

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.board import Board
from snakemake_logger_plugin_epic100.display import Display, Screen
from snakemake_logger_plugin_epic100.ending import ending
from snakemake_logger_plugin_epic100.status import Status

__all__ = ["LogHandler"]

# JOB_ERROR already reports a job's failure; Snakemake's banner only repeats the command.
BANNERS = ("RuleException", "CalledProcessError")


class LogHandler(LogHandlerBase):
    """The handler that Snakemake loads; the display is in the other modules of this package."""

    def __post_init__(self) -> None:
        """Start with Snakemake's own format; the display starts when the run does."""
        common = self.common_settings
        quiet: Collection[Quietness] = common.quiet or ()
        self._plain = ColorizingTextHandler(
            nocolor=common.nocolor,
            stream=sys.stdout if common.stdout else sys.stderr,
            filter=DefaultFilter(
                quiet, common.debug_dag, common.verbose, common.dryrun, common.printshellcmds
            ),
            formatter=(_PlanFormatter if common.dryrun else DefaultFormatter)(
                quiet, common.show_failed_logs
            ),
        )
        self._status: Status | None = None
        self._screen: Screen | None = None
        self._counted = False
        self._board = Board()
        self._unsaid: list[str] = []  # errors, shown at the end if no job failed

    def emit(self, record: LogRecord) -> None:
        """Handle one log record of Snakemake."""
        event = getattr(record, "event", None)
        if self.common_settings.dryrun and not self.common_settings.verbose:
            again = event == LogEvent.RUN_INFO and self._counted
            self._counted = self._counted or event == LogEvent.RUN_INFO
            if event != LogEvent.WORKFLOW_STARTED and not again:
                self._pass_on(record)
            return
        if self.common_settings.verbose:
            self._pass_on(record)
            return
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
        """Show how the run ended, and give the screen back."""
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
        """True: this handler replaces Snakemake's own."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """False: the log file remains Snakemake's."""
        return False

    @property
    def has_filter(self) -> bool:
        """True: this handler needs every event, even with `--quiet`."""
        return True

    @property
    def has_formatter(self) -> bool:
        """True: this handler formats its own lines."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """False: no graph is drawn."""
        return False


class _PlanFormatter(DefaultFormatter):
    """The jobs of a dry run without the time of day, which says nothing there."""

    def format_job_info(self, msg: dict[str, Any]) -> str:
        """Leave out the first line, the time."""
        return super().format_job_info(msg).partition("\n")[2]


def _without_banner(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines)
