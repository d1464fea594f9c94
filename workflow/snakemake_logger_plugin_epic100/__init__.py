"""`snakemake --logger epic100`: show the status of a run on the screen.

On a terminal, a block of lines is renewed in place; elsewhere, a line is printed every five
minutes. A line that stays tells that a rule is complete. The failure of a job that is tried again
is shown at once, all others at the end, with the paths of the results. Snakemake's own log file is
unchanged. A dry run shows a line for each rule.
"""

import os
import re
import sys
import threading
from logging import WARNING, LogRecord
from textwrap import dedent

from rich.console import Console
from rich.live import Live
from rich.text import Text
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter, logger
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_epic100.board import Board
from snakemake_logger_plugin_epic100.logs import OUTPUT, read_log
from snakemake_logger_plugin_epic100.words import block, ending, plan

# The pause between two lines if the output is no terminal.
LINE_SECONDS = 300.0
# Programs that a rule starts write to this file descriptor.
STDERR = 2
# The text of these errors is all that a user needs. With others, the places in the code are shown
# that Snakemake prints.
CLEAR = ("EpicError", "DiskError", "BrokenFile", "WorkflowError", "InputFunctionException")
# This pattern matches such places: a heading as `WorkflowError in file ..., line 3:`, a traceback.
PLACES = re.compile(
    r"\A\w+( in (file|rule) .*)?:\n(Error:\n  \w+:\n)?|^(Wildcards:|Traceback:|  File \")(.|\n)*",
    re.MULTILINE,
)
# Messages before the first job that begin like this tell a user nothing.
NOISE = (
    "--keep-incomplete",
    "Assuming unrestricted",
    "Building DAG",
    "Conda environments",
    "Config file",
    "Provided",
    "Rules claiming",
    "SLURM run ID",
    "Using shell",
)


class LogHandler(LogHandlerBase):
    """The handler that Snakemake loads. It calls `emit` in a thread for all handlers."""

    writes_to_stream = True  # It replaces Snakemake's own.
    writes_to_file = False  # The log file remains Snakemake's.
    has_filter = True  # It needs every event, even with `--quiet`.
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Prepare Snakemake's own handler, which shows records until the first job."""
        common = self.common_settings
        self._own_handler = ColorizingTextHandler(
            nocolor=common.nocolor,
            stream=sys.stdout if common.stdout else sys.stderr,
            filter=DefaultFilter(
                common.quiet,
                common.debug_dag,
                common.verbose,
                common.dryrun,
                common.printshellcmds,
            ),
            formatter=DefaultFormatter(common.quiet, common.show_failed_logs),
        )
        # A filter of the logger is called where a record is sent, before the handlers' queue.
        logger.addFilter(read_log)
        self._call_folder = os.getcwd()  # Snakemake goes to --directory later.
        self._console = Console(file=self._own_handler.stream)
        self._board: Board | None = None
        self._end = threading.Event()

    def emit(self, record: LogRecord) -> None:
        """Print a record as Snakemake would, give it to the board, or drop it."""
        event, common = getattr(record, "event", None), self.common_settings
        has_screen = self._board is not None and not common.dryrun
        # An error of this code must not end Snakemake's thread.
        try:
            if getattr(record, "exception", "") in CLEAR and not common.verbose:
                record.msg, record.args = dedent(PLACES.sub("", record.getMessage())).rstrip(), ()
            if common.verbose or (record.levelno >= WARNING and not has_screen):
                self._own_handler.handle(record)
            elif self._board is not None:
                self._say(self._board.update(event, record))
            elif event == LogEvent.RUN_INFO:
                self._board = Board(record, self._call_folder)
                if not common.dryrun:
                    self._take_screen(self._board)
            elif event != LogEvent.WORKFLOW_STARTED and not record.getMessage().startswith(NOISE):
                self._own_handler.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Show the plan, or how the run ended, and give the screen back."""
        logger.removeFilter(read_log)
        # Python may call this twice, and the second call must show nothing.
        board, self._board = self._board, None
        if board is not None and self.common_settings.dryrun:
            self._say(plan(board.jobs_that_are("active")))
        elif board is not None:
            self._end.set()
            self._live.stop()
            self._say(ending(board))
            os.dup2(self._console.file.fileno(), STDERR)
            self._console.file.close()
        super().close()

    def _take_screen(self, board: Board) -> None:
        """Show the state of the run on the screen from now on.

        Rules write to stderr while they run, which would break the block. So stderr goes to a file.
        """
        # The new descriptor still leads to the screen after stderr leads to the file.
        stream = os.fdopen(os.dup(STDERR), "w", encoding="utf-8")
        with open(OUTPUT, "ab") as file:
            os.dup2(file.fileno(), STDERR)
        self._console = Console(file=stream, force_terminal=stream.isatty())
        has_block = self._console.is_interactive
        self._live = Live(
            console=self._console,
            get_renderable=lambda: Text("\n".join(block(board))),
            auto_refresh=has_block,
            refresh_per_second=0.5,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        counts = (f"{rule} {n}" if n > 1 else rule for rule, n in sorted(board.stats.items()))
        self._say([f"{board.total} jobs: {', '.join(counts)}"])
        self._live.start()
        if not has_block:
            threading.Thread(target=self._print_status, args=(board,), daemon=True).start()

    def _print_status(self, board: Board) -> None:
        """Print the status as one line now and then, until the end of the run."""
        while not self._end.wait(LINE_SECONDS):
            self._say([" | ".join(map(str.strip, block(board)))])

    def _say(self, lines: list[str]) -> None:
        """Print lines that stay, on a terminal above the block."""
        for line in lines:
            self._console.out(line, highlight=False)
