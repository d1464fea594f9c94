"""What the logs of a job say of it: its last line while it runs, and why it failed."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from epic100.base.disk import WatchedFile
from epic100.base.errors import EpicError

TAIL_BYTES = 65536
# Each attempt in a rule's log starts like this.
ATTEMPT = re.compile(r"--- \d{4}-\d\d-\d\d ")
CLEAR = re.compile(r"(?:\S+ )?error: (.+)")
RAISED = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)")
# Snakemake puts this behind an executor's message, and at the end of a cluster's log of a job.
TRAILER = re.compile(
    r"(?ms)^(\[\w+ \w+ +\d+ [\d:]+ \d+\]\n)?(Error in rule|RuleException|Shutting down, this|"
    r"Removing output|Exiting because a job|WorkflowError:\nAt least one|Storing output).*"
)
FURTHER = "For further error details"
# A job that a signal ended says this last: a training that saved, or a Python that was killed.
SIGNALLED = re.compile(r"(?:stopped by )?(SIG\w+)\b.* came\b|stopped by (SIG\w+)|KeyboardInterrupt")
LAST_LINES = 5
# It has the time of the last change in ns, and the size in bytes.
LogState = tuple[int, int] | None


@dataclass
class Failure:
    """A job that failed, or was stopped.

    Args:
        job: Rule and wildcards.
        error: The reason.
        log: Path of the log with details, or "".
        stopped: What stopped it, so that nothing is to mend, or "".
    """

    job: str
    error: str
    log: str
    stopped: str = ""

    def lines(self) -> list[str]:
        """The failure as lines to show."""
        text = [f"{'STOPPED' if self.stopped else 'FAILED'} {self.job}: {self.error}"]
        return [*text, f"  log: {self.log}"] if self.log else text


def failure_of(
    job: str, logs: list[str], message: str, before: LogState = None, stopped: str = ""
) -> Failure:
    """Find the reason of a failure.

    Args:
        job: Rule and wildcards.
        logs: The job's logs: the rule's first, the cluster's last.
        message: The executor's message; its first line is the reason.
        before: The state of the rule's log when this try began.
        stopped: What the run was asked to stop by before, or "".
    """
    reasons = message.partition(FURTHER)[0].strip().splitlines()[:1]
    shown_log = logs[0] if logs else ""
    lines = lines_of(shown_log, before)
    errors = [m[1] for line in lines if (m := CLEAR.match(line))]
    errors = errors or [m[1] for line in lines if (m := RAISED.match(line))]
    if errors:
        reasons.append(errors[-1])
    elif not lines and len(logs) > 1:
        # The job died before its rule wrote to the log, so show the end of the cluster's log.
        shown_log = logs[-1]
        end = "".join(f"\n    {line}" for line in lines_of(shown_log)[-LAST_LINES:])
        reasons += [f"its log is empty; the end of the cluster's:{end}"] if end else []
    if signalled := SIGNALLED.match(reasons[-1]) if reasons else None:
        stopped = stopped or signalled[1] or signalled[2] or "Ctrl-C"
    elif errors:
        stopped = ""
    return Failure(job, ", ".join(reasons) or stopped or "see its log", shown_log, stopped)


def state_of(log: str) -> LogState:
    """The state of a log, by which a later change is noticed; None if there is none."""
    try:
        status = Path(log).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def lines_of(log: str, before: LogState = None) -> list[str]:
    """The lines at the end of a log, of the last attempt only, without empty ones.

    Args:
        log: The file; there need be none.
        before: Its state when the attempt began; unchanged, its lines are of an earlier one.
    """
    now, text = state_of(log), ""
    if now is not None and now != before:
        with suppress(OSError, EpicError), WatchedFile(log) as file:
            begin = max(file.size - TAIL_BYTES, 0)
            text = TRAILER.sub("", file.read_at(begin, TAIL_BYTES).decode("utf-8", "replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    begins = [number for number, line in enumerate(lines, start=1) if ATTEMPT.match(line)]
    return lines[begins[-1] :] if begins else lines
