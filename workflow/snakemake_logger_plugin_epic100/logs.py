"""Read the logs of a job: the last line while it runs, and the reason if it failed."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from logging import Filter, LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from epic100.base.disk import WatchedFile
from epic100.base.errors import EpicError

# Only this much of the end of a log is read.
TAIL_BYTES = 65536
# Each attempt in the log of a rule starts with a line like `--- 2026-01-02 `.
ATTEMPT = re.compile(r"--- \d{4}-\d\d-\d\d ")
# An EpicError is such a line of the log.
CLEAR = re.compile(r"(?:\S+ )?error: (.+)")
# The traceback of any other exception ends with such a line.
RAISED = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)")
# Snakemake puts this behind an executor's message, and at the end of a cluster's log of a job.
TRAILER = re.compile(
    r"(?ms)^(\[\w+ \w+ +\d+ [\d:]+ \d+\]\n)?(Error in rule|RuleException|Shutting down, this|"
    r"Removing output|Exiting because a job|WorkflowError:\nAt least one|Storing output).*"
)
# The message of an executor goes on like this behind the reason.
FURTHER = "For further error details"
# A line of MMEngine's log begins like this; a status line has no place for it.
MMENGINE = re.compile(r"^\d\d/\d\d [\d:]+ - mmengine - [A-Z]+ - ")
# A job that a signal ended says this last: a training that saved, or a Python that was killed.
SIGNALLED = re.compile(r"(?:stopped by )?(SIG\w+)\b.* came\b|stopped by (SIG\w+)|KeyboardInterrupt")
# This many lines of the cluster's log are shown.
LAST_LINES = 5
# The time of the last change of a log in ns, and its size in bytes.
LogState = tuple[int, int] | None


class LogReader(Filter):
    """Read the log of a job in the moment in which its start or its failure is reported.

    The screen gets the reports later, in a thread of its own. By then a short job may have written
    its log, or Snakemake has removed the log, since it tries the job again.
    """

    def __init__(self) -> None:
        """Begin without any job."""
        super().__init__()
        # The state of the log at the start of the last try, by the number of the job.
        self._states_before: dict[int, LogState] = {}

    def filter(self, record: LogRecord) -> bool:
        """Add `log_before` to the report of a start, and `log_lines` to that of a failure.

        Args:
            record: A record of Snakemake. All are let through.
        """
        values = vars(record)
        event = values.get("event")
        if event in (LogEvent.JOB_INFO, LogEvent.JOB_ERROR):
            log = str((values["log"] or [""])[0])
            if event == LogEvent.JOB_INFO:
                values["log_before"] = self._states_before[values["jobid"]] = state_of(log)
            else:
                values["log_lines"] = lines_of(log, self._states_before.get(values["jobid"]))
        return True


@dataclass
class Failure:
    """The failure of a job, or its stop by a signal or a key.

    Args:
        job: Rule and wildcards.
        error: The reason.
        log: Path of the log with details, or "".
        stopped: The signal or key that stopped the job, so that nothing is to mend, or "".
    """

    job: str
    error: str
    log: str
    stopped: str = ""

    def lines(self) -> list[str]:
        """The lines to show: `FAILED scan P01: ...`, and the path of the log."""
        text = [f"{'STOPPED' if self.stopped else 'FAILED'} {self.job}: {self.error}"]
        return [*text, f"  log: {self.log}"] if self.log else text


def failure_of(
    job: str, logs: Sequence[str], lines: Sequence[str], message: str, stopped: str = ""
) -> Failure:
    """Find the reason of a failure in the logs of the job and in the executor's message.

    Args:
        job: Rule and wildcards.
        logs: The job's logs: the rule's first, the cluster's last.
        lines: The lines of the rule's log that are of this try.
        message: The executor's message; its first line is the reason.
        stopped: The signal or key that stopped the run before this failure, or "".
    """
    # The list has the first line of the executor's message, or nothing.
    reasons = message.partition(FURTHER)[0].strip().splitlines()[:1]
    shown_log = logs[0] if logs else ""
    errors = [match[1] for line in lines if (match := CLEAR.match(line))]
    errors = errors or [match[1] for line in lines if (match := RAISED.match(line))]
    if errors:
        reasons.append(errors[-1])
    elif not lines and len(logs) > 1:
        # The job ended before its rule wrote to the log, so the end of the cluster's log is shown.
        shown_log = logs[-1]
        end = "".join(f"\n    {line}" for line in lines_of(shown_log)[-LAST_LINES:])
        reasons += [f"its log is empty; the end of the cluster's:{end}"] if end else []
    if signalled := SIGNALLED.match(reasons[-1]) if reasons else None:
        # Two alternatives of the pattern have a name of a signal, the third is for Ctrl-C.
        stopped = stopped or signalled[1] or signalled[2] or "Ctrl-C"
    elif errors:
        # The job failed by an error of its own, although the run was being stopped.
        stopped = ""
    return Failure(job, ", ".join(reasons) or stopped or "see its log", shown_log, stopped)


def state_of(log: str) -> LogState:
    """Time and size of a log, by which a later change is noticed; None if there is no log."""
    try:
        status = Path(log).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def lines_of(log: str, before: LogState = None) -> list[str]:
    """The last lines of a log that are of the last attempt, without empty lines.

    Args:
        log: Path of the log, which need not exist.
        before: The state of the log when the attempt began. If the log is still in this state, its
            lines are of an earlier attempt, so there are none.
    """
    text = ""
    if state_of(log) not in (None, before):
        # A log that cannot be read now has no lines now.
        with suppress(OSError, EpicError), WatchedFile(log) as file:
            tail = file.read_at(max(file.size - TAIL_BYTES, 0), TAIL_BYTES)
            text = TRAILER.sub("", tail.decode("utf-8", "replace"))
    lines = [MMENGINE.sub("", line) for line in text.splitlines() if line.strip()]
    # The indexes of the lines that follow the heading of an attempt.
    starts = [index + 1 for index, line in enumerate(lines) if ATTEMPT.match(line)]
    return lines[starts[-1] :] if starts else lines
