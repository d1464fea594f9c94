"""One run holds a working directory: to save work, and so that the screen is true.

A run writes a record before its first job, touches it every few seconds (a beat), and removes
it at its end. Another run is refused while the record beats. It takes over when the record has been
silent for a while, or when its run is known to be gone. Of the jobs that this run has left on a
cluster it first waits for those that the executor does not adopt. A run that was taken over finds
it out at its next beat, and ends.

None of this protects results: two jobs that write the same output do no harm.
"""

import atexit
import contextlib
import getpass
import json
import math
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from epic100.base.atomic import FENCE, require_newest, write_text
from epic100.base.disk import read_json
from epic100.base.errors import DiskError, EpicError
from epic100.base.machine import process_space
from epic100.base.scheduler import ClusterJob, NoAnswerError, Scheduler, here, known_schedulers

RECORD = Path(".snakemake/epic100-run.json")
LOCKS = Path(".snakemake/locks")
# A run touches its record so often.
BEAT_SECONDS = 10.0
# A run whose record is silent for so long is gone.
SILENT_SECONDS = 60.0
# Jobs have so long to end by themselves after a signal.
GRACE_SECONDS = 3.0
# The most jobs that are listed. The others are counted.
SHOWN = 8
# The scheduler is asked every LOOK_SECONDS, and for JUDGE_SECONDS if it does not answer.
LOOK_SECONDS = 10.0
JUDGE_SECONDS = 300.0
# After so long, a job that was submitted is in the queue, or its submission was lost.
ARRIVAL_SECONDS = 30.0
OPTION = "--epic100-leftovers"

Show = Callable[[str], None]
Adopt = Callable[[Scheduler, Sequence[ClusterJob]], Sequence[ClusterJob]]


@dataclass(frozen=True)
class Run:
    """One call of Snakemake.

    Args:
        token: A random text that no other run has.
        host: The machine on which Snakemake runs.
        pid: Snakemake's process id there.
        space: An id of the boot and the namespace to which this process id belongs
            (`process_space`).
        user: The user who started the run.
        job: The cluster job in which Snakemake itself runs, as `id@cluster`, or "".
        scheduler: The name of the scheduler to which the run may have submitted jobs, or "".
        facts: Values by which this scheduler finds the jobs of the run, such as their common name;
            arguments of the scheduler's class.
    """

    token: str
    host: str
    pid: int
    space: str
    user: str
    job: str
    scheduler: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def this(cls) -> "Run":
        """Describe the run of this process, with a new token."""
        return cls(
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            pid=os.getpid(),
            space=process_space(),
            user=getpass.getuser(),
            job=here().granted().job,
        )

    def __str__(self) -> str:
        """Describe the run for a message: `process 71 of ann on node3, job 9@wice`."""
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} of {self.user} on {self.host}{job}"

    def is_gone(self) -> bool:
        """Whether the run is known to have ended; False if this machine cannot tell."""
        if self.host != socket.gethostname():
            # A cluster may queue a job again under the same id. If this process runs in that job,
            # the run before has ended.
            return bool(self.job) and self.job == here().granted().job
        boot, namespace = process_space().split()
        run_boot, run_namespace = self.space.split()
        # After another boot, all processes are gone. In another namespace (a container), the pid
        # says nothing.
        return boot != run_boot or (namespace == run_namespace and not psutil.pid_exists(self.pid))


def read_run(folder: Path) -> Run | None:
    """Read the record of the run that holds `folder`; None if no run holds it.

    Raises:
        EpicError: The record is incomplete or of another version.
        DiskError: The disk fails.
    """
    path = folder / RECORD
    try:
        return Run(**read_json(path))
    except FileNotFoundError:
        return None
    except DiskError:
        raise
    except (ValueError, TypeError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise EpicError(
            f"{path}: {why}; see that no job of the last run here is in a queue, then remove it"
        ) from None


class Hold:
    """Hold a working directory for this run, from `take` to the end of this process.

    Args:
        folder: The working directory.
        show: Called with each line for the user.

    Attributes:
        run: This run, once it holds the directory; None before.
        scheduler: The scheduler that has jobs of this run.
    """

    def __init__(self, folder: Path, show: Show):
        """Prepare the hold and its heartbeat; `take` begins both."""
        self.folder = folder
        self.show = show
        self.run: Run | None = None
        self.scheduler = Scheduler()
        self._released = threading.Event()  # Once set, it ends the heartbeat.
        self._heartbeat = threading.Thread(target=self._beat, daemon=True)

    def take(self, adopt: Adopt = lambda scheduler, jobs: jobs, cancels: bool = False) -> None:
        """Take the directory, after the jobs that a killed run left have ended or are adopted.

        Args:
            adopt: Called with the scheduler and the jobs of a killed run; returns the jobs that it
                does not adopt. By default none is adopted.
            cancels: Cancel the jobs that are not adopted; otherwise wait for them.

        Raises:
            EpicError: Another run is active here, or nothing tells whether jobs are left.
        """
        this_run = Run.this()
        # Several runs may try to take over at once. Only one of them creates the record. The others
        # read that record in the next iteration.
        while not self._claim(this_run):
            other = read_run(self.folder)
            if other is not None:
                any_adopted = self._settle_jobs_of(other, adopt, cancels)
                if any_adopted:
                    # The adopted jobs are this run's own from now on, so its record says how to
                    # find them.
                    this_run = replace(this_run, scheduler=other.scheduler, facts=other.facts)
                self._remove_record_of(other)
        self.run = this_run
        # Writers compare the token in this environment variable with that in the record. So this
        # process, and those it starts, write no file once another run has taken over.
        os.environ[FENCE] = f"{(self.folder / RECORD).absolute()}={this_run.token}"
        atexit.register(self.release)
        self._heartbeat.start()

    def clear_locks(self) -> None:
        """Remove the locks that a killed run of Snakemake left, before Snakemake sees them."""
        # Without a readable record, nothing tells whose locks these are, and they stay.
        with contextlib.suppress(EpicError):
            run = read_run(self.folder)
            if run and (run.is_gone() or _age(self.folder / RECORD) > SILENT_SECONDS):
                for lock in (self.folder / LOCKS).glob("*.lock"):
                    lock.unlink(missing_ok=True)

    def record_scheduler(self, scheduler: Scheduler, stop: Callable[[], None]) -> None:
        """Write into the record to which scheduler this run submits, before the first job.

        From then on, signals are handled so that the run can end while a submission waits.

        Args:
            scheduler: The scheduler; it finds the jobs of this run.
            stop: Called first on Ctrl-C. Without it, the executor would wait for a submission that
                is itself waiting.
        """
        assert self.run is not None, "`take` comes before the first job"
        self.scheduler = scheduler
        self.run = replace(self.run, scheduler=scheduler.name, facts=scheduler.facts)
        write_text(self.folder / RECORD, json.dumps(asdict(self.run)))
        _do_first(signal.SIGINT, stop)
        # Nothing is to be done first on SIGTERM. This call only makes Snakemake's handler of it run
        # in a thread from now on, where it may wait for a lock that the main thread holds.
        _do_first(signal.SIGTERM, lambda: None)

    def forward_signals(self) -> None:
        """Make a signal that only this process gets end its jobs too, so that a training saves.

        A terminal's Ctrl-C reaches the jobs as well. So this process first gives them some seconds
        to end by themselves.
        """
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            timer = threading.Timer(GRACE_SECONDS, _end_children)
            timer.daemon = True
            _do_first(signal_number, timer.start)

    def end(self) -> None:
        """Cancel the jobs that the executor missed, and wait until all jobs of the run have ended.

        On Ctrl-C the executor cancels the jobs that it knows, but not those that it is just
        submitting.
        """
        if self.run is None or not self.run.scheduler:
            return
        try:
            # This raises an error if another run has taken over. Then the jobs are its own.
            require_newest()
            if jobs := self.scheduler.jobs():
                for job in jobs:
                    if job.state != "COMPLETING":
                        self.show(f"cancelled, since the workflow has ended: {job}")
                self.scheduler.cancel(jobs)
                self._wait_for(jobs, self.scheduler)
            # Without a scheduler in the record, `release` knows that no job is left.
            self.run = replace(self.run, scheduler="")
        except (EpicError, NoAnswerError) as error:
            self.show(f"{error}; the next run here will ask again")

    def release(self) -> None:
        """Release the directory; a run that may have left jobs keeps its record."""
        if self.run is not None and not self.run.scheduler:
            self._released.set()
            # A beat after the release would make the record anew.
            self._heartbeat.join(BEAT_SECONDS)
            self._remove_record_of(self.run)

    def _claim(self, run: Run) -> bool:
        """Create the record of this run; return False if there already is a record."""
        path = self.folder / RECORD
        temporary = path.with_suffix(f".{run.token}")
        write_text(temporary, json.dumps(asdict(run)))
        try:
            # A link is atomic and never replaces another record.
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def _remove_record_of(self, run: Run) -> None:
        """Remove the record of `run`, unless another run has replaced it meanwhile."""
        holder = read_run(self.folder)
        if holder is not None and holder.token == run.token:
            (self.folder / RECORD).unlink(missing_ok=True)

    def _beat(self) -> None:
        """Touch the record every few seconds; end this process if another run has taken over."""
        while (this_run := self.run) is not None:
            # A disk that does not answer now may answer at the next beat.
            with contextlib.suppress(OSError, EpicError):
                holder = read_run(self.folder)
                # Somebody may have removed the record by hand. Then it is written again.
                if holder is None and self._claim(this_run):
                    holder = this_run
                if holder is None or holder.token != this_run.token:
                    self.show(f"This run was taken over by another one ({holder}), and ends.")
                    _end_children()
                    # This exit touches no file, since all files are the other run's.
                    os._exit(1)
                os.utime(self.folder / RECORD)
            if self._released.wait(BEAT_SECONDS):
                return

    def _settle_jobs_of(self, run: Run, adopt: Adopt, cancels: bool) -> bool:
        """Check that another run has ended; adopt its jobs, and wait for the others to end.

        Returns:
            Whether some jobs are adopted.

        Raises:
            EpicError: The run or a job of it on this machine is active, or nothing tells whether
                jobs are left.
        """
        age = _age(self.folder / RECORD)
        if age < SILENT_SECONDS and not run.is_gone():
            raise EpicError(
                f"another run of this workflow is at work here: {run}, which gave a sign {age:.0f} "
                f"s ago; if it is gone, give the same command again in {SILENT_SECONDS:.0f} s"
            )
        if scripts := _scripts_in(self.folder):
            raise EpicError(
                f"{self.folder}: the last run here was killed, but jobs of it are still active "
                f"({', '.join(scripts)}); wait until they end, or end them with `kill`, then give "
                "the same command"
            )
        if not run.scheduler:
            self.show("The last run here was killed; this one goes on from what it finished.")
            return False
        if run.scheduler not in known_schedulers():
            raise EpicError(
                f"{self.folder / RECORD}: jobs on {run.scheduler}; expected one of "
                f"{', '.join(known_schedulers())}; run with the version of the workflow that began "
                "it"
            )
        # The queue may not show the last job of the run yet.
        while (seconds_left := ARRIVAL_SECONDS - _age(self.folder / RECORD)) > 0:
            time.sleep(min(seconds_left, 1.0))
        scheduler = known_schedulers()[run.scheduler](**run.facts)
        jobs = self._ask(run, scheduler)
        not_adopted = list(jobs) if cancels else list(adopt(scheduler, jobs))
        heading = f"The last run here ({run}) was cut short. These of its jobs"
        if adopted := [job for job in jobs if job not in not_adopted]:
            self._show_jobs(f"{heading} go on:", adopted)
        if not_adopted:
            self._show_jobs(f"{heading} are left:", not_adopted)
            if cancels:
                self.show(f"Cancelling them, since {OPTION} is cancel.")
                scheduler.cancel(not_adopted)
            else:
                self.show(f"Waiting for them ({OPTION} cancel cancels them; Ctrl-C leaves them).")
            self._wait_for(not_adopted, scheduler)
        return bool(adopted)

    def _show_jobs(self, heading: str, jobs: Sequence[ClusterJob]) -> None:
        """Show a heading and the first `SHOWN` jobs, a line each, and count the others."""
        self.show(heading)
        for job in jobs[:SHOWN]:
            self.show(f"  {job}")
        if len(jobs) > SHOWN:
            self.show(f"  and {len(jobs) - SHOWN} more")

    def _wait_for(self, jobs: Sequence[ClusterJob], scheduler: Scheduler) -> None:
        """Wait until the scheduler no longer lists any of the jobs; show each that has ended."""
        unfinished = {job.id: job for job in jobs}
        while unfinished:
            time.sleep(LOOK_SECONDS)
            try:
                in_queue = {job.id: job for job in scheduler.jobs()}
            except NoAnswerError as error:
                self.show(f"nothing tells which jobs have ended ({error}); asking again")
                continue
            for job_id in unfinished.keys() - in_queue.keys():
                self.show(f"{unfinished[job_id].about}: job {job_id} has ended")
            unfinished = {
                job_id: in_queue[job_id] for job_id in unfinished.keys() & in_queue.keys()
            }

    def _ask(self, run: Run, scheduler: Scheduler) -> list[ClusterJob]:
        """Ask the scheduler which jobs of a run are left; ask again for a while without an answer.

        Raises:
            EpicError: The scheduler has not answered in `JUDGE_SECONDS`, or never will.
        """
        deadline = time.monotonic() + JUDGE_SECONDS
        last_message = ""
        while True:
            try:
                return scheduler.jobs()
            except NoAnswerError as error:
                message = str(error)
                if error.never or time.monotonic() > deadline:
                    raise EpicError(
                        f"nothing tells whether jobs of the last run here ({run}) go on "
                        f"({message}): give the same command where and when the scheduler answers; "
                        f"if it never will, remove {self.folder / RECORD}"
                    ) from None
            if message != last_message:
                self.show(
                    f"{message}; asking again, since jobs of a run that was cut short may be left"
                )
                last_message = message
            time.sleep(min(LOOK_SECONDS, max(deadline - time.monotonic(), 0.1)))


def _do_first(signal_number: int, action: Callable[[], None]) -> None:
    """Set a handler for a signal that first runs `action`, then the handler that was there.

    Snakemake's own handler of SIGTERM (Snakemake 9.27) waits for a lock. If the interrupted thread
    holds that lock, it would wait forever. So that handler runs in a thread of its own.
    """
    old_handler = signal.getsignal(signal_number)

    def handle(number: int, frame: FrameType | None) -> None:
        """Run the action, then the old handler: that of SIGTERM in a thread."""
        # A timer cannot be started twice: at a second signal, its start raises RuntimeError.
        with contextlib.suppress(RuntimeError):
            action()
        if callable(old_handler) and number == signal.SIGTERM:
            threading.Thread(target=old_handler, args=(number, frame), daemon=True).start()
        elif callable(old_handler):
            old_handler(number, frame)

    with contextlib.suppress(ValueError):  # Only the main thread can set a handler.
        signal.signal(signal_number, handle)


def _end_children() -> None:
    """Ask all child processes to end, by SIGTERM; a training saves first."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # It may have ended by itself.
            child.terminate()


def _age(path: Path) -> float:
    """Return the seconds since a file was touched; infinite if the file is gone.

    The clock of the file system is used, since another machine's may differ: a new file shows it.
    """
    with tempfile.TemporaryFile(dir=path.parent) as probe:
        now = os.fstat(probe.fileno()).st_mtime
    with contextlib.suppress(FileNotFoundError):
        if (age := now - path.stat().st_mtime) >= 0:
            return age
        # The file is from the future, so a clock was wrong. Its age counts from now on.
        os.utime(path)
        return 0.0
    return math.inf


def _scripts_in(folder: Path) -> list[str]:
    """List the rules' scripts that Snakemake runs in a folder: `train.py, process 123`.

    Scripts of cluster jobs are left out, though they may run on this machine: the scheduler is
    asked about those.
    """
    descriptions = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        scripts = [word for word in process.info["cmdline"] or () if "snakemake/scripts/" in word]
        if scripts and process.info["cwd"] == str(folder.resolve()):
            with contextlib.suppress(psutil.Error):  # It may have ended, or be another user's.
                if not here(process.environ()).granted(process.environ()).job:
                    # Snakemake names its copy of a script `tmp1234abcd.train.py`.
                    _, _, name = Path(scripts[0]).name.partition(".")
                    descriptions.append(f"{name}, process {process.info['pid']}")
    return descriptions
