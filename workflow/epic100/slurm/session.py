"""One run of the workflow on Slurm, from before its first submission until after its last job."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.slurm import queue, record
from epic100.slurm.watch import Watch
from epic100.slurm.wrappers import BIN


class Session:
    """Does nothing until `begin`; `tell` gets lines for the people who look at the workflow."""

    def __init__(self, folder: Path, tell: Callable[[str], None]):
        self._folder, self._tell = folder, tell
        self._clusters: Sequence[str] = ()
        self._watch: Watch | None = None

    def begin(self, clusters: Sequence[str]) -> None:
        """Put the wrappers on the PATH and record the run, whose jobs go to `clusters`."""
        self._clusters = clusters
        os.environ["EPIC100_PYTHON"] = sys.executable
        os.environ["PATH"] = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
        record.Run.this(clusters).write(self._folder)
        self._watch = Watch(self._folder, self._tell)
        self._watch.start()

    def end(self) -> None:
        """Cancel what the executor has overlooked, and take the record away.

        On Ctrl-C the executor cancels the jobs that it knows at that moment, and not those that it
        is just submitting or looking up.
        """
        if self._watch is None:
            return
        try:
            if left := queue.jobs_of(self._folder, self._clusters):
                for job in left:
                    self._tell(f"cancelled, since the workflow has ended: {job}")
                queue.cancel(left)
            record.forget(self._folder)
        except EpicError as error:
            self._tell(f"{error}; the next run here will ask again")
        self._watch.pass_on()
