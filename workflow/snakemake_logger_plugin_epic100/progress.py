"""The progress of a job, parsed from its rule's log."""

import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 32768
# epic100.base.log.Progress: "label: done/total unit, rate/s, left left[, note]"
STEP = re.compile(r"^\S.*?: (\d+)/(\d+) ([\w ]+), [\d.]+/s, (\S+) left(?:, (.*))?$", re.MULTILINE)
EPOCH = re.compile(r"\bepoch (\d+)/(\d+)")
LOSS = re.compile(r"\bloss ([\d.]+(?:e-?\d+)?|nan)")
TOP1 = re.compile(r"\baction top-1 ([\d.]+) %")


@dataclass(frozen=True)
class Step:
    """The last progress line of a log."""

    done: int
    total: int
    unit: str
    left: str
    note: str

    def __str__(self) -> str:
        share = f"{100 * self.done // max(self.total, 1)} %"
        return ", ".join(filter(None, [share, self.note, f"{self.left} left"]))


def progress_of(logs: list[str], since: float) -> str:
    """The progress of a job as a short text; "" if its log has none.

    Args:
        logs: The job's logs; the first is its rule's.
        since: Start of the job in seconds since 1970. An older log belongs to another attempt.
    """
    if not logs:
        return ""
    path = Path(logs[0])
    try:
        status = path.stat()
        if status.st_mtime < since:
            return ""
        with path.open("rb") as log:
            log.seek(max(status.st_size - TAIL_BYTES, 0))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    text = text[text.rfind("\n--- ") + 1 :]
    step = _last_step(text)
    if not EPOCH.search(text):
        return str(step) if step else ""
    epoch, loss, top1 = EPOCH.findall(text)[-1], LOSS.findall(text), TOP1.findall(text)
    parts = [f"epoch {epoch[0]}/{epoch[1]}"]
    parts += [f"loss {loss[-1]}"] if loss else []
    parts += [f"top-1 {top1[-1]} %"] if top1 else []
    parts += [f"{step.left} left"] if step else []
    return ", ".join(parts)


def _last_step(text: str) -> Step | None:
    steps = STEP.findall(text)
    if not steps:
        return None
    done, total, unit, left, note = steps[-1]
    return Step(int(done), int(total), unit, left, note)
