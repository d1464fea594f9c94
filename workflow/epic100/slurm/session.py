"""One run of the workflow, from before it reads any file until after its last job on Slurm."""

import atexit
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from epic100.base.errors import EpicError
from epic100.slurm import jobs, takeover
from epic100.slurm.commands import BIN, NoAnswerError
from epic100.slurm.record import Run, Show, release
from epic100.slurm.submission import STOP, WORKFLOW
from epic100.slurm.watch import Watch
from epic100.slurm.wrappers import CLUSTERS

PLUGIN = "snakemake-executor-plugin-slurm"
KNOWN = ("2.8.0",)  # versions tested by tests/slurm
# Options of calls that run no job; such calls must neither wait for jobs nor cancel any.
LOOKS = [
    "dryrun",
    "touch",
    "lint",
    "list_rules",
    "list_target_rules",
    "print_compilation",
    "dag",
    "rulegraph",
    "filegraph",
    "d3dag",
    "unlock",
    "cleanup_metadata",
    "cleanup_shadow",
    "conda_cleanup_envs",
    "conda_create_envs_only",
    "archive",
    "list_conda_envs",
    "list_changes",
    "list_input_changes",
    "list_params_changes",
    "list_untracked",
    "summary",
    "detailed_summary",
    "containerize",
    "container_cleanup_images",
    "generate_unit_tests",
    "delete_all_output",
    "delete_temp_output",
    "report",
]


class Session:
    """Holds a working directory from `claim` to `release`; does nothing before.

    Args:
        folder: The working directory.
        show: Gets lines for the user.
    """

    def __init__(self, folder: Path, show: Show):
        self._folder, self._show = folder, show
        self._run: Run | None = None
        self._watch: Watch | None = None

    def claim(self) -> None:
        """Hold the working directory for this run, after waiting for the remains of a killed run.

        Raises:
            EpicError: Another run is active here, or this cannot be determined.
        """
        if self._run is not None:
            return
        run = replace(Run.this(), submits=False)
        takeover.take_over(self._folder, run, self._show, os.environ.get(takeover.CHOICE, ""))
        self._run = run
        atexit.register(self.release)
        self._watch = Watch(self._folder, self._show)
        self._watch.start()

    def begin(self, clusters: Sequence[str], logs: Path | None = None) -> None:
        """Put the wrappers on the PATH, and write to the record where the jobs go.

        Args:
            clusters: Clusters of the jobs; empty means this machine's own.
            logs: Folder of Slurm's logs, if it is not the executor's default.

        Raises:
            EpicError: A wrapper is not executable.
        """
        for wrapper in BIN.iterdir():
            if not os.access(wrapper, os.X_OK):
                raise EpicError(f"{wrapper} has no run bit: chmod +x {BIN}/*, or install anew")
        self.claim()
        assert self._run is not None
        os.environ["EPIC100_PYTHON"] = sys.executable
        os.environ["PATH"] = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
        if warning := unknown_version():
            self._show(warning)
        os.environ[CLUSTERS] = ",".join(clusters)
        os.environ[WORKFLOW] = f"{self._run.pid} {self._run.started}"
        if logs is not None:
            os.environ["EPIC100_SLURM_LOGS"] = str(logs)
        self._run = replace(self._run, clusters=tuple(clusters), submits=True)
        self._run.write(self._folder)
        self._stop_submissions_on_interrupt()

    def end(self) -> None:
        """Cancel jobs that the executor missed, so that nothing is left of the run.

        On Ctrl-C the executor cancels the jobs that it knows, but not those that it is just
        submitting or looking up.
        """
        if self._run is None or not self._run.submits:
            return
        try:
            if left := jobs.jobs_of(self._folder, self._run.clusters):
                for job in left:
                    self._show(f"cancelled, since the workflow has ended: {job}")
                jobs.cancel(left)
            self._run = replace(self._run, submits=False)
        except (EpicError, NoAnswerError) as error:
            self._show(f"{error}; the next run here will ask again")
        if self._watch is not None:
            self._watch.show_notes()

    def release(self) -> None:
        """Release the working directory; a run that may have left jobs keeps its record."""
        if self._run is not None and not self._run.submits:
            release(self._folder, self._run)

    def _stop_submissions_on_interrupt(self) -> None:
        """Make Ctrl-C end submissions that wait for Slurm, because the executor waits for them."""
        usual = signal.getsignal(signal.SIGINT)

        def stop(number: int, frame: FrameType | None) -> None:
            (self._folder / STOP).touch()
            if callable(usual):
                usual(number, frame)

        if callable(usual):
            signal.signal(signal.SIGINT, stop)


def unknown_version() -> str:
    """A warning if the executor's version was not tested; else ""."""
    found = version(PLUGIN)
    if found in KNOWN:
        return ""
    return (
        f"{PLUGIN} {found} is installed, and this workflow was tested with {', '.join(KNOWN)}: "
        "if it hangs, install that one"
    )


def options() -> Namespace:
    """Snakemake's options, while a Snakefile is being read; empty if its API was called without.

    Snakemake passes them on only later, so they are taken from its stack frame. sys.argv is not
    used, because it belongs to another program if that program calls Snakemake.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "args_to_api":
            found = frame.f_locals.get("args")
            return found if isinstance(found, Namespace) else Namespace()
    return Namespace()


def only_looks(given: Namespace) -> bool:
    """Whether a call with these options runs no jobs."""
    return any(getattr(given, name, None) for name in LOOKS)
