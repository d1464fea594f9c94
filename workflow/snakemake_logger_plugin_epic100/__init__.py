"""`snakemake --logger epic100`: show the status of a run on the screen.

On a terminal, one block of lines is updated in place; elsewhere, one line is printed every five
minutes. The failure of a job that is tried again is shown at once, all others at the end, with the
paths of the results. Snakemake's own log file is unchanged. A dry run shows a line for each rule.
"""

import re
import sys
from collections.abc import Collection
from logging import WARNING, LogRecord
from pathlib import Path
from textwrap import dedent

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter, logger
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.board import Board
from snakemake_logger_plugin_epic100.ending import ending
from snakemake_logger_plugin_epic100.logs import LogReader
from snakemake_logger_plugin_epic100.plan import plan
from snakemake_logger_plugin_epic100.status import Status

__all__ = ["LogHandler"]

# JOB_ERROR already reports a job's failure; Snakemake's banner only repeats the command.
BANNERS = ("RuleException", "CalledProcessError")
# The text of these errors is all that a user needs. With others, the places in the code are shown
# that Snakemake prints.
CLEAR = ("EpicError", "DiskError", "BrokenFile", "WorkflowError", "InputFunctionException")
# This pattern matches such places: a heading as `WorkflowError in file ..., line 3:`, a traceback.
PLACES = re.compile(
    r"\A\w+( in (file|rule) .*)?:\n(Error:\n  \w+:\n)?|^(Wildcards:|Traceback:|  File \")(.|\n)*",
    re.MULTILINE,
)
# Messages of Snakemake that begin like this tell a user nothing, so they are not shown.
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
# Messages that begin like this are shown although they are no warnings.
WORTH_SHOWING = ("Nothing to be done", "Trial: ", "Terminating processes", "Will exit after")


class LogHandler(LogHandlerBase):
    """The handler that Snakemake loads; the display is in the other modules of this package."""

    writes_to_stream = True  # It replaces Snakemake's own.
    writes_to_file = False  # The log file remains Snakemake's.
    has_filter = True  # It needs every event, even with `--quiet`.
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Prepare Snakemake's own handler, which shows records until the display starts."""
        common = self.common_settings
        quiet: Collection[Quietness] = common.quiet or ()
        self._own_handler = ColorizingTextHandler(
            nocolor=common.nocolor,
            stream=sys.stdout if common.stdout else sys.stderr,
            filter=DefaultFilter(
                quiet, common.debug_dag, common.verbose, common.dryrun, common.printshellcmds
            ),
            formatter=DefaultFormatter(quiet, common.show_failed_logs),
        )
        # A filter of the logger is called where a record is sent, before the handler's queue.
        self._log_reader = LogReader()
        logger.addFilter(self._log_reader)
        self._call_folder = Path.cwd()  # Snakemake goes to --directory later.
        self._status: Status | None = None
        # Snakemake's records of the jobs of a dry run, or None before the first of them.
        self._planned_jobs: list[dict] | None = None
        # Errors that are shown at the end if no job failed.
        self._held_errors: list[str] = []

    def emit(self, record: LogRecord) -> None:
        """Handle one log record of Snakemake: show it, put it into the display, or drop it."""
        event = getattr(record, "event", None)
        common = self.common_settings
        if getattr(record, "exception", "") in CLEAR and not common.verbose:
            record.msg, record.args = dedent(PLACES.sub("", record.getMessage())).rstrip(), ()
        if self._status is not None:
            self._update_display(event, record)
        elif common.verbose or record.levelno >= WARNING:
            self._print(record)
        elif common.dryrun and (self._planned_jobs is not None or event == LogEvent.RUN_INFO):
            self._planned_jobs = self._planned_jobs or []
            if event == LogEvent.JOB_INFO and self._own_handler.filter(record):
                self._planned_jobs.append(vars(record))
        elif event == LogEvent.RUN_INFO:
            # From here on, every record goes to the display.
            self._status = Status(Board(record, self._call_folder))
            self._status.start()
        elif event != LogEvent.WORKFLOW_STARTED and not record.getMessage().startswith(NOISE):
            self._print(record)

    def _print(self, record: LogRecord) -> None:
        """Print a record as Snakemake itself would, if its options let it through."""
        if self._own_handler.filter(record):
            self._own_handler.emit(record)

    def _update_display(self, event: LogEvent | None, record: LogRecord) -> None:
        """Give a record to the board, show its lines above the block, and renew the block."""
        assert self._status is not None
        lines = self._status.board.update(event, record)
        text = record.getMessage()
        warns = record.levelno >= WARNING and not text.startswith(NOISE)
        if event == LogEvent.ERROR:
            if getattr(record, "exception", "") in BANNERS:
                self._held_errors.append(text)
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
        for line in plan(self._planned_jobs or ()):
            self._own_handler.stream.write(f"{line}\n")
        logger.removeFilter(self._log_reader)
        # Python may call this twice, and the second call must show nothing.
        self._planned_jobs = None
        if self._status is not None:
            board = self._status.board
            # The failures of jobs, if there are any, already say what these errors say.
            explained = board.failures or board.done == board.total
            self._status.stop([*([] if explained else self._held_errors), *ending(board)])
            self._status = None
        super().close()
