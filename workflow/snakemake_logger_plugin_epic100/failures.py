"""Find the reason of a failed job: the clearest message in its logs."""

import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 65536
ATTEMPT = re.compile(r"^--- \d{4}-\d\d-\d\d ", re.MULTILINE)  # how each attempt in a log starts
CLEAR = re.compile(r"^(?:\S+ )?error: (.+)$", re.MULTILINE)
RAISED = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)$", re.MULTILINE)
STATUS = re.compile(r"SLURM status is: '(\w+)'")
REASON = re.compile(r"Reasons?: (?:Step 0: )?(.+?)\.(?:For further|$)", re.MULTILINE)
REFUSED = re.compile(r"The error message was '(.+?)'", re.DOTALL)
LAST_LINES = 5


@dataclass
class Failure:
    """A job that failed.

    Args:
        job: Rule and wildcards.
        error: The reason.
        log: Path of the log with details, or "".
        mended: Whether a later attempt succeeded.
    """

    job: str
    error: str
    log: str
    mended: bool = False

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
    parts = [match[1] for match in [STATUS.search(message)] if match]
    reason = REASON.search(message)
    if reason and reason[1] != "Unknown":
        parts.append(reason[1])
    if refused := REFUSED.search(message):
        parts.append(" ".join(refused[1].split()))
    shown, end = logs[0] if logs else "", ""
    own = _last_attempt(logs[0]) if logs else ""
    if found := (CLEAR.findall(own) or RAISED.findall(own)):
        parts.append(found[-1])
    elif logs and not own.strip():
        # The job died before its rule wrote to the log, so show the end of Slurm's log.
        shown = logs[-1]
        lines = [line for line in _tail(shown).splitlines() if line.strip()]
        if len(logs) > 1 and lines:
            parts.append("its log is empty; the end of Slurm's:")
            end = "".join(f"\n    {line}" for line in lines[-LAST_LINES:])
    if not parts and message:
        parts.append(message.strip().splitlines()[0])
    return Failure(job, (", ".join(parts) or "see its log") + end, shown)


def _last_attempt(path: str) -> str:
    text = _tail(path)
    begins = [match.end() for match in ATTEMPT.finditer(text)]
    attempt = text[begins[-1] :] if begins else text
    return attempt.partition("\n")[2] if begins else attempt


def _tail(path: str) -> str:
    try:
        with Path(path).open("rb") as log:
            log.seek(max(Path(path).stat().st_size - TAIL_BYTES, 0))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""
