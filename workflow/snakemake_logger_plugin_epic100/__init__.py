"""`snakemake --logger epic100`: show the status of a run on the screen.

On a terminal, one block of lines is updated in place; elsewhere, one line is printed every five
minutes. The failure of a job that is tried again is shown then, all others at the end, with the
paths of the results. Snakemake's own log file is unchanged. A dry run is a line for each rule.
"""

import re
import sys
from collections.abc import Collection
from logging import WARNING, LogRecord
from pathlib import Path
from textwrap import dedent

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.board import Board
from snakemake_logger_plugin_epic100.ending import ending
from snakemake_logger_plugin_epic100.plan import plan
from snakemake_logger_plugin_epic100.status import Status

__all__ = ["LogHandler"]

# JOB_ERROR already reports a job's failure; Snakemake's banner only repeats the command.
BANNERS = ("RuleException", "CalledProcessError")
# The text of these errors is all that a user needs. For others, the places in the code are shown
# too.
CLEAR = ("EpicError", "DiskError", "BrokenFile", "WorkflowError", "InputFunctionException")
PLACES = re.compile(
    r"\A\w+( in (file|rule) .*)?:\n(Error:\n  \w+:\n)?|^(Wildcards:|Traceback:|  File \")(.|\n)*",
    re.MULTILINE,
)
NOISE = (
    "--keep-incomplete",
    "Assuming unrestricted",
    "Building DAG",
    "Conda environments",
    "Config file",
    "Provided",
    "Rules claiming",
    "Using shell",
)
WORTH_SHOWING = ("Nothing to be done", "Start check", "Terminating processes", "Will exit after")


class LogHandler(LogHandlerBase):
    """The handler that Snakemake loads; the display is in the other modules of this package."""

    writes_to_stream = True  # It replaces Snakemake's own.
    writes_to_file = False  # The log file remains Snakemake's.
    has_filter = True  # It needs every event, even with `--quiet`.
    has_formatter = True
    needs_rulegraph = False

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
            formatter=DefaultFormatter(quiet, common.show_failed_logs),
        )
        self._here = Path.cwd()  # Snakemake goes to --directory later.
        self._status: Status | None = None
        # It has the jobs of a dry run, once that has begun.
        self._planned: list[dict] | None = None
        # These errors are shown at the end if no job failed.
        self._unsaid: list[str] = []

    def emit(self, record: LogRecord) -> None:
        """Handle one log record of Snakemake."""
        event = getattr(record, "event", None)
        common = self.common_settings
        if getattr(record, "exception", "") in CLEAR and not common.verbose:
            record.msg, record.args = dedent(PLACES.sub("", record.getMessage())).rstrip(), ()
        if self._status is not None:
            self._show(event, record)
        elif common.verbose or record.levelno >= WARNING:
            self._say(record)
        elif common.dryrun and (self._planned is not None or event == LogEvent.RUN_INFO):
            self._planned = self._planned or []
            if event == LogEvent.JOB_INFO and self._plain.filter(record):
                self._planned.append(vars(record))
        elif event == LogEvent.RUN_INFO:
            self._status = Status(Board(record, self._here))
            self._status.start()
        elif event != LogEvent.WORKFLOW_STARTED and not record.getMessage().startswith(NOISE):
            self._say(record)

    def _say(self, record: LogRecord) -> None:
        if self._plain.filter(record):
            self._plain.emit(record)

    def _show(self, event: LogEvent | None, record: LogRecord) -> None:
        assert self._status is not None
        lines, text = self._status.board.take(event, record), record.getMessage()
        warns = record.levelno >= WARNING and not text.startswith(NOISE)
        if event == LogEvent.ERROR:
            if getattr(record, "exception", "") in BANNERS:
                self._unsaid.append(text)
            else:
                lines += filter(str.strip, text.splitlines())
                self._status.board.refused = getattr(record, "exception", "") in CLEAR
        elif event is None and (warns or text.startswith(WORTH_SHOWING)):
            lines += [text] if text else []
        for line in lines:
            self._status.display.say(line)
        self._status.display.renew(self._status.block())

    def close(self) -> None:
        """Show how the run ended, and give the screen back."""
        for line in plan(self._planned or ()):
            self._plain.stream.write(f"{line}\n")
        self._planned = None
        if self._status is not None:
            board = self._status.board
            unsaid = [] if board.failures or board.done == board.total else self._unsaid
            self._status.stop([*unsaid, *ending(board)])
            self._status = None
        super().close()
