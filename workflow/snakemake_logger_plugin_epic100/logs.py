"""Read the logs of a job: the last line while it runs, and the reason if it failed."""

import os
import re
from contextlib import suppress
from logging import LogRecord
from pathlib import Path
from typing import Any, NamedTuple

from snakemake_interface_logger_plugins.common import LogEvent

from epic100.base.disk import WatchedFile
from epic100.base.errors import EpicError

# The text that rules write to stderr goes to this file.
OUTPUT = ".snakemake/epic100-output.log"
# Only this much of the end of a log is read.
TAIL_BYTES = 65536
# Each attempt in the log of a rule starts with such a line.
ATTEMPT = re.compile(r"(?m)^--- \d{4}-\d\d-\d\d .*$")
# A line of MMEngine's log begins like this; a status line has no place for it.
MMENGINE = re.compile(r"(?m)^\d\d/\d\d [\d:]+ - mmengine - [A-Z]+ - ")
# Snakemake puts this behind an executor's message, and at the end of a cluster's log of a job.
TRAILER = re.compile(
    r"(?ms) *For further error details.*|^(\[\w+ \w+ +\d+ [\d:]+ \d+\]\n)?(Error in rule|"
    r"RuleException|Shutting down, this|Removing output|Exiting because a job|"
    r"WorkflowError:\nAt least one|Storing output).*"
)
# An EpicError is such a line of the log.
CLEAR = re.compile(r"(?m)^(?:\S+ )?error: (.+)")
# The traceback of any other exception ends with such a line.
RAISED = re.compile(r"(?m)^((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)")
# A job that a signal ended says this last: a training that saved, or a Python that was killed.
SIGNALLED = re.compile(r"(?:stopped by )?(SIG\w+)\b.* came\b|stopped by (SIG\w+)|KeyboardInterrupt")
# The time of the last change of a log in ns, and its size in bytes; None if there is no log.
LogState = tuple[int, int] | None


class Failure(NamedTuple):
    """The lines to show for a failure, and the signal or key that stopped the job, or ""."""

    lines: list[str]
    stopped: str


def read_log(record: LogRecord) -> bool:
    """Read the log of a job in the moment in which its start or its failure is reported.

    The screen gets the report later, in a thread of its own. By then a short job may have written
    its log, or Snakemake has removed the log, since it tries the job again.

    Args:
        record: A record of Snakemake, which gets the additional values. All are let through.
    """
    values = vars(record)
    if values.get("event") in (LogEvent.JOB_INFO, LogEvent.JOB_ERROR):
        values["rule_log"] = str((values["log"] or [""])[0])
        values["log_state"] = state_of(values["rule_log"])
        values["log_lines"] = lines_of(values["rule_log"])
    return True


def failure_of(name: str, record: Any, lines: list[str], stopped: str, folder: str) -> Failure:
    """Find the reason of a failure in the logs of the job and in the executor's message.

    Args:
        name: Rule and wildcards of the job.
        record: Snakemake's record of the failure. Of its logs, the cluster's is the last.
        lines: The lines of the rule's log that are of this try.
        stopped: The signal or key that stopped the run before this failure, or "".
        folder: The folder to which the path of the log is relative.
    """
    # The first line of the executor's message is a reason; the others are hints of Snakemake.
    reasons = TRAILER.sub("", str(record.rule_msg or "")).strip().splitlines()[:1]
    text = "\n".join(lines)
    errors = CLEAR.findall(text) or RAISED.findall(text)
    reasons += errors[-1:]
    logs = [*map(str, record.log)] or [OUTPUT]
    # Without lines, the job ended before its rule wrote to the log.
    log = logs[0] if lines else logs[-1]
    if not lines and len(logs) > 1 and (end := lines_of(log)[-5:]):
        reasons.append("\n    ".join(["its log is empty; the end of the cluster's:", *end]))
    if signalled := SIGNALLED.match(reasons[-1]) if reasons else None:
        # Two alternatives of the pattern have a name of a signal, the third is for Ctrl-C.
        stopped = stopped or signalled[1] or signalled[2] or "Ctrl-C"
    elif errors:
        # The job failed by an error of its own, although the run was being stopped.
        stopped = ""
    word = "STOPPED" if stopped else "FAILED"
    reason = ", ".join(reasons) or stopped or "see its log"
    return Failure([f"{word} {name}: {reason}", f"  log: {shown_path(log, folder)}"], stopped)


def shown_path(path: str, folder: str) -> str:
    """A path, relative to the folder in which the user gave the command if it is below it."""
    return os.path.abspath(path).removeprefix(f"{folder}/")


def state_of(log: str) -> LogState:
    """The state of a log, by which a later change is noticed."""
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
    # A log that cannot be read now has no lines now.
    with suppress(OSError, EpicError), WatchedFile(log) as file:
        tail = file.read_at(max(file.size - TAIL_BYTES, 0), TAIL_BYTES)
        text = MMENGINE.sub("", TRAILER.sub("", tail.decode("utf-8", "replace")))
    lines = ATTEMPT.split(text)[-1].splitlines()
    return [] if state_of(log) == before else [line for line in lines if line.strip()]
