"""Of several jobs for one target, an older one ends before it touches a file."""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from epic100.base.atomic import FENCE, require_newest
from epic100.base.errors import EpicError
from epic100.base.scheduler import here

NEWEST = Path(".snakemake/epic100-newest")


def newest_file(words: Sequence[str]) -> Path:
    """The file with the id of the job that was submitted last for a target.

    Args:
        words: A command of a job: a call of Snakemake, whatever is around it.
    """
    text = re.sub(r"[\"'\\]", "", " ".join(words))
    target = re.search(r"--target-jobs (.*?)(?: --|$)", text)
    return NEWEST / hashlib.sha256((target[1] if target else text).encode()).hexdigest()[:16]


def end_if_not_newest(words: Sequence[str] = sys.argv) -> None:
    """End a job of a cluster if a later one was submitted for its target: now, or when it saves.

    Args:
        words: The command of this process.
    """
    if job := here().granted().job.partition("@")[0]:
        os.environ[FENCE] = f"{newest_file(words).absolute()}={job}"
    try:
        require_newest()
    except EpicError as error:
        sys.exit(str(error))
