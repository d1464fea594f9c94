"""Tables in Markdown, and the machine that their figures are of."""

import os
import time
from collections.abc import Iterable

import av


def markdown(head: str, rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown.

    Args:
        head: The names of its columns, separated by " | ".
        rows: Their cells; None is an empty one.
    """
    lines = [f"| {head} |", "|---" * len(head.split(" | ")) + "|"]
    for row in rows:
        lines.append(f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |")
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """The date, the cores and how busy they are, and the versions of PyAV and FFmpeg."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "versions": f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}",
    }
