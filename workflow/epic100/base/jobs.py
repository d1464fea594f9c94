"""Several jobs for the same files: an older one ends before it touches a file.

The executor notes the newest job for a target (`newest_file`). Each job compares that note with its
own id when it starts, and whenever it writes a file (`atomic.require_newest`).
"""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from epic100.base.atomic import FENCE, require_newest
from epic100.base.errors import EpicError

# The folder of the files that `newest_file` names.
NEWEST = Path(".snakemake/epic100-newest")
# Slurm's id of the job in which a process runs.
JOB_ID = "SLURM_JOB_ID"


def newest_file(words: Sequence[str]) -> Path:
    """Return the path of the file that holds the id of the newest job for the same target.

    Args:
        words: The command of a job: a call of Snakemake with `--target-jobs`, and possibly a shell
            around it.
    """
    # Quotes of a shell may be around the same target in one command and not in another.
    text = re.sub(r"[\"'\\]", "", " ".join(words))
    target = re.search(r"--target-jobs (.*?)(?: --|$)", text)
    return NEWEST / hashlib.sha256((target[1] if target else text).encode()).hexdigest()[:16]


def end_if_not_newest(words: Sequence[str] = sys.argv) -> None:
    """End this cluster job if a later job was submitted for the same target.

    The job ends now if there is a later one already, else when it next writes a file (`FENCE`).

    Args:
        words: The command of this process.
    """
    if job_id := os.environ.get(JOB_ID):
        # From now on, `require_newest` and each atomic write compare the id with that in the file.
        os.environ[FENCE] = f"{newest_file(words).absolute()}={job_id}"
    try:
        require_newest()
    except EpicError as error:
        sys.exit(str(error))
