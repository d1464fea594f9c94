"""What the logs of a job say of it: its last line while it runs, and why it failed."""

import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 65536
ATTEMPT = re.compile(r"--- \d{4}-\d\d-\d\d ")  # how each attempt in a rule's log starts
CLEAR = re.compile(r"(?:\S+ )?error: (.+)")
RAISED = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)")
# In the executor's message: Slurm's state, its reason, and why it refused the job.
OF_SLURM = (
    re.compile(r"SLURM status is: '(\w+)'"),
    re.compile(r"Reasons?: (?:Step 0: )?(.+?)\.(?:For further|$)", re.MULTILINE),
    re.compile(r"The error message was '(.+?)'", re.DOTALL),
)
LAST_LINES = 5


@dataclass
class Failure:
    """A job that failed.

    Args:
        job: Rule and wildcards.
        error: The reason.
        log: Path of the log with details, or "".
    """

    job: str
    error: str
    log: str

    def lines(self) -> list[str]:
        """The failure as lines to show."""
        text = [f"FAILED {self.job}: {self.error}"]
        return [*text, f"  log: {self.log}"] if self.log else text


def failure_of(job: str, logs: list[str], message: str) -> Failure:
    """Find the reason of a failure.

    Args:
        job: Rule and wildcards.
        logs: The job's logs: the rule's first, Slurm's last.
        message: The executor's message.
    """
    found = [match for pattern in OF_SLURM if (match := pattern.search(message))]
    parts = [" ".join(match[1].split()) for match in found if match[1] != "Unknown"]
    shown = logs[0] if logs else ""
    own = lines_of(shown)
    said = [m[1] for line in own if (m := CLEAR.match(line))]
    said = said or [m[1] for line in own if (m := RAISED.match(line))]
    if said:
        parts.append(said[-1])
    elif not own and len(logs) > 1:
        # The job died before its rule wrote to the log, so show the end of Slurm's log.
        shown = logs[-1]
        end = "".join(f"\n    {line}" for line in lines_of(shown)[-LAST_LINES:])
        parts += [f"its log is empty; the end of Slurm's:{end}"] if end else []
    if not parts and message:
        parts.append(message.strip().splitlines()[0])
    return Failure(job, ", ".join(parts) or "see its log", shown)


def lines_of(log: str, since: float = 0.0) -> list[str]:
    """The lines at the end of a log, of the last attempt only, without empty ones.

    Args:
        log: The file; there need be none.
        since: Seconds since 1970. A log that was not written since then belongs to another attempt.
    """
    path = Path(log)
    try:
        status = path.stat()
        with path.open("rb") as file:
            file.seek(max(status.st_size - TAIL_BYTES, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line for line in text.splitlines() if line.strip()] if status.st_mtime >= since else []
    begins = [number for number, line in enumerate(lines, start=1) if ATTEMPT.match(line)]
    return lines[begins[-1] :] if begins else lines
