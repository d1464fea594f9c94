"""The executor of Slurm jobs: that of snakemake-executor-plugin-slurm, made to last a bad night.

The plugin's own (2.8.0) waits for ever if sacct does not answer or a job is cancelled by hand, and
fails a job if sbatch fails once (snakemake/snakemake-executor-plugin-slurm, threads 207, 313, 320).
Its command of sbatch, options and logs are used as they are. What changes: the submission, which is
asked for again until it is clear; the polling, in which no answer is no end; and the jobs that an
earlier run of this folder has left, which are waited for.
"""

import asyncio
import json
import os
import re
import shlex
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import psutil
import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from epic100.base.atomic import write_text
from epic100.base.disk import read_json, read_text
from epic100.base.errors import EpicError
from epic100.base.lock import newest_file, note_lock
from epic100.slurm.queue import (
    SlurmJob,
    jobs_in_accounts,
    jobs_in_queue,
    message_of,
    option_of,
    run,
)
from epic100.slurm.requests import QUEUE_FULL, Request, cluster_of, is_never_taken, rejections
from epic100.slurm.site import partitions_file, read_partitions

# A call of sbatch may take this long. After that, it is unknown whether its request arrived.
SBATCH_SECONDS = 120.0
# The pause between two calls of sbatch or squeue for the same job.
RETRY_SECONDS = 15.0
# After this long, a request without an answer is in the queue or lost.
ARRIVAL_SECONDS = 30.0
# The longest pause between two polls of the jobs.
LONGEST_PAUSE_SECONDS = 180.0
# If neither squeue nor sacct knows a job in this number of polls, its files tell how it has ended.
POLLS = 3
ENDED = {"COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE", "CANCELLED"}
# Ends by the machines. They cost a job none of its tries, but every 20th, so that a job that kills
# its nodes runs out of tries.
OF_MACHINES = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"}
ENDS_PER_TRY = 20
# The states and messages of a job that needed more memory than it had.
MEMORY = re.compile(r"exceeded memory limit|oom.?kill|out.of.memory", re.IGNORECASE)
# This pattern finds Slurm's own error messages in the log of a job.
SLURM_MESSAGE = re.compile(r"^(?:slurmstepd|slurmd|srun)[^:]*: error: (.+)$", re.MULTILINE)
# The name of this folder's jobs, the clusters that they were sent to, and the number of the folder
# on its disk, which a copy of the folder does not have.
NAME_FILE = Path(".snakemake/epic100-slurm.json")
# The parts of the plugin that are used here and are not documented (tests/slurm/test_failures.py).
PARTS_OF_PLUGIN = (
    "_job_submission_executor",
    "_report_job_submission_threadsafe",
    "_report_job_error_threadsafe",
)


@dataclass
class ExecutorSettings(plugin.ExecutorSettings):
    """The plugin's options, as `--epic100-...`, and the patience of a submission."""

    patience: int = field(
        default=30,
        metadata={
            "help": "Minutes for which a submission is tried again that fails for no reason of "
            "its own; a full queue is waited for without limit."
        },
    )
    status_command: Optional[str] = field(  # noqa: UP045 (the registry of options reads no `|`)
        default=None,
        metadata={"help": "Not used: squeue is asked, and sacct for the jobs that it lacks."},
    )

    def __post_init__(self) -> None:
        """Reject array jobs."""
        super().__post_init__()
        if self.array_jobs:
            raise WorkflowError(
                "--epic100-array-jobs: the plugin mixes up the states of array jobs; leave it out"
            )


class Executor(plugin.Executor):
    """Submits the jobs of a run to Slurm, and reports their ends to Snakemake."""

    # The plugin sets this attribute without a type.
    next_seconds_between_status_checks: Any

    def __post_init__(self, test_mode: bool = False) -> None:
        """Wait for the jobs of an earlier run here, and ask Slurm about all requests of this one.

        Raises:
            WorkflowError: Slurm would reject a request.
        """
        note_lock()
        super().__post_init__(test_mode)
        self._stopped = threading.Event()
        self._said: set[str] = set()
        # Slurm's ids of the jobs that this run has submitted.
        self._submitted: set[str] = set()
        # The polls in a row in which no command knew a job, by its id.
        self._absences: Counter[str] = Counter()
        # By Snakemake's number of a job: its ends by machines, and the memory that was too little.
        self._ends_by_machines: Counter[int] = Counter()
        self._too_little: dict[int, float] = {}
        jobs = [job for job in self.workflow.dag.needrun_jobs() if not job.is_local]
        self._name_jobs(sorted({cluster_of(job.resources) for job in jobs} - {""}))
        self._wait_for_remaining_jobs()
        requests = [self._request(job, os.devnull) for job in jobs]
        if lines := rejections(requests, read_partitions(partitions_file(self.workflow.rundir))):
            raise WorkflowError("\n".join(["Nothing was submitted.", *lines]))

    def _name_jobs(self, clusters: Sequence[str]) -> None:
        """Give the jobs of all runs in this folder one name, by which each run finds them."""
        self._clusters, self._is_first_run = list(clusters), True
        inode = NAME_FILE.parent.stat().st_ino
        # A file that is missing or cannot be read names no jobs, and one that was copied with its
        # folder names those of the other folder.
        with suppress(OSError, EpicError, KeyError, TypeError):
            known = read_json(NAME_FILE)
            if known["folder"] == inode:
                self.run_uuid, self._is_first_run = known["name"], False
                self._clusters = sorted({*clusters, *known["clusters"]})
        names = {"name": self.run_uuid, "clusters": self._clusters, "folder": inode}
        write_text(NAME_FILE, json.dumps(names))

    def _wait_for_remaining_jobs(self) -> None:
        """Wait for the jobs of an earlier run, then start anew, so that this run sees their files.

        Raises:
            WorkflowError: Ctrl-C.
        """
        try:
            waited = False
            # A first run has no earlier one. Without an answer, squeue is asked again.
            while not self._is_first_run and (jobs := self._queue()) != []:
                for job in jobs or ():
                    self._say(f"{job}, is of an earlier run here: waiting for its end")
                    self._say(f"(`scancel --name {self.run_uuid}` on its cluster ends all of them)")
                waited = waited or bool(jobs)
                time.sleep(RETRY_SECONDS)
        except KeyboardInterrupt:
            raise WorkflowError("stopped by Ctrl-C; the jobs of the earlier run go on") from None
        if waited:
            self.logger.warning("The jobs of the earlier run have ended; this one begins.")
            # The screen shows this line in a thread, which ends now.
            time.sleep(1)
            # Paths of the command are from the folder of the call.
            os.chdir(self.workflow.rundir)
            os.execv(sys.executable, sys.orig_argv)

    def _say(self, text: str) -> None:
        """Show a warning, unless it was shown before."""
        if text not in self._said:
            self._said.add(text)
            self.logger.warning(text)

    def _queue(self, *options: str) -> list[SlurmJob] | None:
        """This folder's jobs in the queue, or None if squeue does not tell."""
        jobs, trouble = jobs_in_queue(self.run_uuid, self._clusters, *options)
        if trouble:
            self._say(f"{trouble}; asking again, and jobs run on")
        return jobs

    def _request(self, job: Any, log: str | Path) -> Request:
        """The call of sbatch for a job, as the plugin makes it."""
        account = shlex.quote(str(job.resources.get("slurm_account") or ""))
        plugin.validate_slurm_extra(job)
        parameters = {
            "run_uuid": self.run_uuid,
            "slurm_logfile": log,
            "comment_str": _comment(job),
            # The plugin would ask the database of accounts, which may be away.
            "account": f"-A {account}" if job.resources.get("slurm_account") else "",
            "partition": self.get_partition_arg(job),
            "workdir": self.workflow.workdir_init,
        }
        call = plugin.get_submit_command(job, parameters, self.workflow.executor_settings)
        return Request(_comment(job), call + plugin.set_gres_string(job), job.resources)

    def run_job(self, job: Any) -> None:
        """Submit a job. The plugin calls this in a thread, so all errors are reported."""
        try:
            job_type = "group" if job.is_group() else "rule"
            folder = self.slurm_logdir / f"{job_type}_{job.name}" / plugin.get_job_wildcards(job)
            folder.mkdir(parents=True, exist_ok=True)
            if self._too_little.get(job.jobid, 0) >= _memory(job):
                # Snakemake does not try a job again after its last attempt.
                job.attempt = max(job.attempt, job.restart_times + 1)
                raise WorkflowError("this try would get no more memory: give it more")
            job_id = self._submit(job, self._request(job, folder / "%j.log"))
            log = folder / f"{job_id}.log"
            # The screen reads the id from this message, as it is the plugin's.
            self.logger.info(
                f"Job {job.jobid} has been submitted with SLURM jobid {job_id} (log: {log})."
            )
            info = SubmittedJobInfo(job, external_jobid=job_id, aux={"slurm_logfile": log})
            self._report_job_submission_threadsafe(info)
        except Exception as error:
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {error}\n")

    def _submit(self, job: Any, request: Request) -> str:
        """Call sbatch until the job is surely in the queue, once; return Slurm's id of it.

        Raises:
            WorkflowError: The request is never taken, the patience has ended, or the run has.
        """
        minutes = self.workflow.executor_settings.patience
        deadline = time.monotonic() + 60 * minutes
        command = self.format_job_exec(job)
        newest = newest_file([command])
        job_id = ""
        while not job_id:
            if self._stopped.is_set():
                raise WorkflowError("the workflow has ended")
            # An older note would end the job as one that was replaced.
            newest.unlink(missing_ok=True)
            done = run(f"exec {request.call} /dev/stdin", SBATCH_SECONDS, f"#!/bin/sh\n{command}")
            message = message_of(done)
            # Slurm's line is `4711` or `4711;wice`. A site's own sbatch may print others before it.
            ids = re.findall(r"(?m)^\s*(\d+)(?:;[\w.-]+)?\s*$", done.stdout)
            if ids and not done.returncode:
                job_id = ids[-1]
                # A site may take a job with a warning.
                if done.stderr.strip():
                    self._say(f"{request.job}: {message}")
                break
            if done.returncode and is_never_taken(message):
                raise WorkflowError(message)
            self._say(f"{request.job} cannot be submitted now, trying on: {message}")
            # An unclear answer may hide a success, and a full queue takes nothing.
            if not QUEUE_FULL.search(message):
                job_id = self._id_in_queue(request)
                if not job_id and time.monotonic() > deadline:
                    raise WorkflowError(f"{message}, for {minutes} minutes")
            if not job_id:
                self._stopped.wait(RETRY_SECONDS)
        self._submitted.add(job_id)
        # The note only saves work, so a full disk must not fail the job.
        with suppress(OSError, EpicError):
            write_text(newest, json.dumps({"token": job_id}))
        return job_id

    def _id_in_queue(self, request: Request) -> str:
        """Find the job of a request that sbatch did not answer; "" if it did not arrive.

        A controller may answer squeue before it handles a request that it got earlier, so squeue is
        asked twice.
        """
        for pause in (0.0, ARRIVAL_SECONDS):
            self._stopped.wait(pause)
            # Without an answer, nothing is known, and a second request might be a second job.
            while (jobs := self._queue("--states", "all")) is None and not self._stopped.is_set():
                self._stopped.wait(RETRY_SECONDS)
            for job in jobs or ():
                if job.comment == request.job and job.id not in self._submitted:
                    return job.id
        return ""

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncIterator[SubmittedJobInfo]:
        """Report the jobs that have ended, and yield the others.

        Each poll without an end of a job makes the pause before the next one longer.
        """
        pause = first_pause = self.workflow.executor_settings.init_seconds_before_status_checks
        known: dict[str, SlurmJob] = {}
        if active_jobs:
            pause = min(self.next_seconds_between_status_checks + 10, LONGEST_PAUSE_SECONDS)
            async with self.status_rate_limiter:
                ids = [info.external_jobid or "" for info in active_jobs]
                known = await asyncio.to_thread(self._poll, ids)
        for info in active_jobs:
            slurm_job = known.get(info.external_jobid or "")
            if slurm_job and slurm_job.state in ENDED | OF_MACHINES:
                pause = first_pause
                self._report_end(info, slurm_job)
            elif self._absences[info.external_jobid or ""] >= POLLS:
                # Snakemake itself checks whether the outputs are there.
                self.report_job_success(info)
            else:
                yield info
        self.next_seconds_between_status_checks = pause

    def _poll(self, ids: Sequence[str]) -> dict[str, SlurmJob]:
        """Ask Slurm for these jobs; return those that it knows, by their ids.

        The screen gets the jobs that are in the queue, and what Slurm does not know is counted.

        The word of squeue counts before that of sacct: after an end by the machines, Slurm may have
        queued the job again, despite `--no-requeue`.
        """
        queue = self._queue("--states", "all")
        known, active, pending = {}, {}, 0
        for job in queue or ():
            known[job.id] = job
            if job.state not in ENDED:
                active[job.id] = job.shown()
                pending += job.state == "PENDING"
        # The screen reads this attribute of the record.
        text = f"Slurm: {len(active) - pending} running, {pending} pending"
        self.logger.info(text, extra={"slurm_jobs": active})
        if missing := sorted(set(ids) - known.keys()):
            for job in jobs_in_accounts(self.run_uuid, self._clusters, missing):
                known[job.id] = job
        # A squeue that does not answer proves nothing about a job.
        if queue is not None:
            self._absences.update(missing)
        for job_id in known:
            self._absences.pop(job_id, None)
        return known

    def _report_end(self, info: SubmittedJobInfo, ended: SlurmJob) -> None:
        """Report the end of a job to Snakemake, or submit it again if the machines ended it."""
        job = info.job
        if ended.state == "COMPLETED":
            self.report_job_success(info)
            return
        if ended.state in OF_MACHINES and not self._stopped.is_set():
            # Only every 20th such end counts as a try.
            self._ends_by_machines[job.jobid] += 1
            if self._ends_by_machines[job.jobid] % ENDS_PER_TRY:
                self.logger.warning(
                    f"{ended.comment}: job {ended.id} ended by {ended.state} on {ended.nodes}; it "
                    "is submitted again, which counts as no try"
                )
                self._job_submission_executor.submit(self.run_job, job)
                return
        log = info.aux["slurm_logfile"]
        reason = f"{ended.state}, it ran {ended.elapsed} of {ended.limit} on {ended.nodes}"
        # A job that ended early has no log.
        with suppress(OSError, EpicError):
            messages = SLURM_MESSAGE.findall(read_text(log, errors="replace"))
            reason = "; ".join([reason, *dict.fromkeys(messages)])
        if MEMORY.search(reason):
            self._too_little[job.jobid] = _memory(job)
        self.report_job_error(info, msg=f"{reason}\n", aux_logs=[str(log)])

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs of this folder, also those whose submission was not answered yet."""
        self._stopped.set()
        # A call of sbatch that hangs must not keep the run.
        for child in psutil.Process().children(recursive=True):
            child.terminate()
        self._job_submission_executor.shutdown(wait=True)
        done = run(["scancel", *option_of(self._clusters), "--name", self.run_uuid])
        if done.returncode:
            self.logger.warning(f"jobs may not be cancelled: {message_of(done)}")


def _comment(job: Any) -> str:
    """The comment with which a job is submitted: its rule and wildcards, as `scan P01`."""
    return f"{job.name} {plugin.get_job_wildcards(job)}".strip()


def _memory(job: Any) -> float:
    """The memory that a job asks for in MiB, for each node or GPU, to compare its tries."""
    get = job.resources.get
    cores = get("cpus_per_task") or get("cpus_per_gpu") or job.threads
    return float(get("mem_mb_per_cpu") * cores if get("mem_mb_per_cpu") else get("mem_mb") or 0)
