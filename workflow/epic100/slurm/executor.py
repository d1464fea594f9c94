"""The executor of Slurm jobs: it submits them, watches them, and reports their ends.

It is a subclass of the executor of snakemake-executor-plugin-slurm. That one hangs if sacct does
not answer or a job is cancelled by hand, and fails a job if sbatch fails once (contrib/upstream).
The command of sbatch, the options and the clean-up stay the plugin's. The modules `answers` and
`failures` have the meanings of Slurm's answers and errors.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from epic100.base.atomic import write_text
from epic100.base.disk import read_json, read_text
from epic100.base.errors import EpicError
from epic100.base.folders import make_folder
from epic100.base.jobs import newest_file
from epic100.base.scheduler import ClusterJob, NoAnswerError, Scheduler, take_charge
from epic100.slurm.answers import ANSWER_SECONDS, Asker, Meaning
from epic100.slurm.commands import TIMED_OUT, clusters_option, message_of, run, squeue
from epic100.slurm.failures import NO_NAME, NO_NODE, NO_PLACE, Fault, fault_of_end, fault_of_request
from epic100.slurm.limits import check_requests, cluster_of, command_of, nodes_up, resources_of
from epic100.slurm.scheduler import Slurm, job_name_in_comment, job_name_in_row
from epic100.slurm.site import partitions_file, read_partitions

# A call of sbatch may take this long. After that, it is unknown whether its request arrived.
SBATCH_SECONDS = 120.0
# The pause between two calls of sbatch or squeue for the same job.
RETRY_SECONDS = 15.0
# After this long, a request without an answer is in the queue or lost.
ARRIVAL_SECONDS = 30.0
# The longest pause between two questions about the states of jobs.
LONGEST_PAUSE_SECONDS = 180.0
# A machine fault costs a job none of its tries, but every 20th one costs it a try. So even a job
# that kills its nodes runs out of tries.
FAULTS_PER_TRY = 20
# This pattern finds Slurm's own error messages in the log of a job.
SLURM_MESSAGE = re.compile(r"^(?:slurmstepd|slurmd|srun)[^:]*: error: (.+)$", re.MULTILINE)


class Executor(plugin.Executor):
    """Submits the jobs of a run to Slurm, and reports their ends to Snakemake."""

    # The plugin sets this attribute without a type.
    next_seconds_between_status_checks: Any

    def __post_init__(self, test_mode: bool = False) -> None:
        """Check the requests of all jobs, and become the scheduler in charge of this run.

        Raises:
            WorkflowError: Slurm would refuse a request.
        """
        # The plugin logs details of itself here, which tell the user nothing.
        self.logger.disabled = True
        try:
            super().__post_init__(test_mode)
        finally:
            self.logger.disabled = False
        self.stopped = threading.Event()
        self._shown_warnings: set[str] = set()
        # Slurm's ids of the jobs that this run submitted.
        self._submitted_ids: set[str] = set()
        # The jobs of a killed run that this run goes on with, by their names (`ClusterJob.about`).
        self._adopted: dict[str, ClusterJob] = {}
        # The node that has just failed under a job, or "", by Snakemake's number of the job. The
        # next request of the job excludes this node.
        self._failed_node: dict[int, str] = {}
        # Node, cluster and partition of each request that excludes a node, by Slurm's id.
        self._excluded: dict[str, tuple[str, str, str]] = {}
        # How often a machine fault ended a job, by Snakemake's number of the job.
        self._machine_faults: Counter[int] = Counter()
        settings = self.workflow.executor_settings
        self._site = read_partitions(partitions_file(self.workflow.rundir))
        clusters = check_requests(self.workflow, settings, self._site)
        self.slurm = Slurm([self.run_uuid], clusters)
        self._asker = Asker(self.slurm.facts, self._warn_once, settings.status_command == "sacct")
        take_charge(self.slurm)

    def stop(self) -> None:
        """End the waiting of all submissions, as on Ctrl-C."""
        self.stopped.set()

    def _warn_once(self, message: str) -> None:
        """Show the user a warning, unless it was shown before."""
        if message not in self._shown_warnings:
            self._shown_warnings.add(message)
            self.logger.warning(message)

    def adopt(self, scheduler: Scheduler, leftovers: Sequence[ClusterJob]) -> list[ClusterJob]:
        """Take over the jobs of a killed run that this run would submit in the same way.

        Args:
            scheduler: The scheduler of the killed run.
            leftovers: The jobs of the killed run that have not ended.

        Returns:
            The jobs that are not taken over.
        """
        if self.workflow.executor_settings.leftovers == "adopt" and scheduler.name == Slurm.name:
            # The attribute `about` is the name of a job: its rule and wildcards, as `scan P01`.
            leftover_by_name = {job.about: job for job in leftovers}
            for job in self.workflow.dag.needrun_jobs():
                leftover = leftover_by_name.get(_job_name(job))
                if leftover and self._is_same_job(job, leftover):
                    self._adopted[leftover.about] = leftover
        if self._adopted:
            # The facts are the run's name and clusters, by which squeue finds its jobs. From now on
            # this run also asks for jobs by the other run's name, on the other run's clusters.
            for key, values in scheduler.facts.items():
                self.slurm.facts[key] += [v for v in values if v not in self.slurm.facts[key]]
        return [job for job in leftovers if job not in self._adopted.values()]

    def _is_same_job(self, job: Any, leftover: ClusterJob) -> bool:
        """Whether a leftover job makes what `job` would make, from the present input files.

        It must be the newest job for these outputs, since an older one ends without a result.
        """
        # Without a readable record, the leftover is not known to be the same job.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, WorkflowError):
            record_path = newest_file([self.format_job_exec(job)])
            record = read_json(record_path)
            # The record was written at the time of the submission.
            submitted = record_path.stat().st_mtime
            unchanged = all(Path(path).stat().st_mtime < submitted for path in job.input)
            # The token is the id of the newest job for these outputs.
            return (
                unchanged
                and record["token"] == leftover.id
                and record["asks"] == digest_of_request(job)
            )
        return False

    def run_job(self, job: Any) -> None:
        """Submit a job, or go on with its adopted one. Snakemake calls this in a thread."""
        adopted = self._adopted.pop(_job_name(job), None)
        # The display reads the id of the job from this message.
        how = "goes on as" if adopted else "has been submitted with"
        try:
            job_id = adopted.id if adopted else self._submit(job)
            log = self._log_of(job, job_id)
            self.logger.info(f"Job {job.jobid} {how} SLURM jobid {job_id} (log: {log}).")
            info = SubmittedJobInfo(job, external_jobid=job_id, aux={"slurm_logfile": log})
            self._report_job_submission_threadsafe(info)
        except NotSubmittedError as error:
            if error.never:
                _without_retry(job)
            self._report_job_error_threadsafe(SubmittedJobInfo(job), str(error))
        except Exception as error:
            # An error in this thread would be lost, and Snakemake would wait for the job for ever.
            self.logger.error(f"{_job_name(job)} is not submitted: {error}", exc_info=True)
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {error}")

    def _log_of(self, job: Any, job_id: str) -> Path:
        """The path of Slurm's log of a job, as `.../rule_scan/P01/4711.log`; makes its folder."""
        rule = f"group_{job.name}" if job.is_group() else f"rule_{job.name}"
        log = self.slurm_logdir / rule / plugin.get_job_wildcards(job) / f"{job_id}.log"
        make_folder(log.parent)
        return log

    def _submit(self, job: Any) -> str:
        """Call sbatch until the job is surely in the queue, and never submit it twice.

        Returns:
            Slurm's id of the job.

        Raises:
            NotSubmittedError: The request is never granted, the patience has ended, or the run has.
        """
        patience = self.workflow.executor_settings.patience
        deadline = time.monotonic() + 60 * patience
        resources = resources_of(job, job.attempt, self._site)
        where = cluster_of(resources), str(resources.get("slurm_partition", ""))
        excluded = self._failed_node.pop(job.jobid, "")
        # If no other node is up, the job may run on this one again.
        if excluded and not nodes_up(*where) - {excluded}:
            excluded = ""
        sbatch_call, script = self._request(resources, job)
        record_path = newest_file([self.format_job_exec(job)])
        name = _job_name(job)
        shown_message = ""
        while not self.stopped.is_set():
            # An old record would name another job as the newest for these outputs. The file only
            # saves work, so a fault of the disk does no harm.
            with contextlib.suppress(OSError):
                record_path.unlink(missing_ok=True)
            command = f"sbatch --exclude={excluded} " if excluded else "sbatch "
            done = self._sbatch(sbatch_call.replace("sbatch ", command, 1), script)
            message = message_of(done)
            # The excluded node is the only one, or one of another cluster.
            if done.returncode and excluded and (NO_NAME in message or NO_NODE in message):
                excluded = ""
                continue
            if done.returncode and fault_of_request(message) == Fault.NEVER:
                raise NotSubmittedError(message, never=True)
            if done.returncode and message != shown_message:
                self.logger.warning(f"{name} cannot be submitted now, trying on: {message}")
                shown_message = message
            # A site may accept a job with a warning.
            elif not done.returncode and done.stderr.strip():
                self.logger.warning(f"{name}: {message}")
            job_id = "" if done.returncode else job_id_in(done.stdout)
            queue_is_full = bool(NO_PLACE.search(message))
            if not job_id and not queue_is_full:
                # An unclear answer may hide a success, so the queue is asked before the next try.
                job_id = self._id_in_queue(cluster_of(resources), _comment(job), deadline)
            if job_id:
                if excluded:
                    self._excluded[job_id] = excluded, *where
                self._record_submission(job, job_id, record_path)
                if shown_message:
                    self.logger.warning(f"{name} is submitted")
                return job_id
            if time.monotonic() > deadline and not queue_is_full:
                raise NotSubmittedError(f"{message}, for {patience} minutes")
            self.stopped.wait(RETRY_SECONDS)
        raise NotSubmittedError("not submitted, since the workflow has ended", never=True)

    def _record_submission(self, job: Any, job_id: str, record_path: Path) -> None:
        """Note that a job is in the queue: for this run, and in a file for the runs after it.

        Args:
            job: Snakemake's job.
            job_id: Slurm's id of it.
            record_path: The record of the newest job for the same outputs.
        """
        self._submitted_ids.add(job_id)
        # The job is in the queue already, so a fault of the disk must not fail it.
        with contextlib.suppress(EpicError):
            write_text(record_path, json.dumps({"token": job_id, "asks": digest_of_request(job)}))

    def _request(self, resources: Mapping[str, Any], job: Any) -> tuple[str, str]:
        """The call of sbatch for a job, and the text for its stdin."""
        sbatch_call = command_of(
            resources,
            job.threads,
            self.workflow.executor_settings,
            run_uuid=self.run_uuid,
            comment_str=_comment(job),
            slurm_logfile=self._log_of(job, "%j"),
            workdir=self.workflow.workdir_init,
            partition=self.get_partition_arg(job),
        )
        command = self.format_job_exec(job)
        if self.workflow.executor_settings.pass_command_as_script:
            return f"{sbatch_call} /dev/stdin", f"#!/bin/sh\n{command}"
        escaped = command.replace('"', '\\"')
        return f'{sbatch_call} --wrap="{escaped}"', ""

    def _sbatch(self, sbatch_call: str, script: str) -> subprocess.CompletedProcess[str]:
        """Call sbatch once; exit status 124 if it does not answer, or if the run is stopped."""
        with tempfile.TemporaryFile("w+") as stdin:
            stdin.write(script)
            stdin.seek(0)
            process = subprocess.Popen(
                sbatch_call,
                shell=True,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        deadline = time.monotonic() + SBATCH_SECONDS
        while True:
            try:
                # The short timeout lets the loop notice a stop of the run.
                out, err = process.communicate(timeout=0.5)
                return subprocess.CompletedProcess(sbatch_call, process.returncode, out, err)
            except subprocess.TimeoutExpired:
                if self.stopped.is_set() or time.monotonic() > deadline:
                    # The process may end just before the signal.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    error = f"sbatch: no answer in {SBATCH_SECONDS:.0f} s"
                    return subprocess.CompletedProcess(sbatch_call, TIMED_OUT, "", error)

    def _id_in_queue(self, cluster: str, comment: str, deadline: float) -> str:
        """Find the job of a request that sbatch did not answer; "" if the request did not arrive.

        A controller may answer squeue before it handles a request that it got earlier, so it is
        asked once more after `ARRIVAL_SECONDS`. A job that has ended since then is found as well; a
        job of an earlier request is not taken.

        Args:
            cluster: The cluster of the request, or "" for this machine's own.
            comment: The comment of the job.
            deadline: The time, by `time.monotonic`, until which an answer of squeue is waited for.
        """
        for pause in (0.0, ARRIVAL_SECONDS):
            rows = None
            while rows is None and not self.stopped.wait(pause) and time.monotonic() < deadline:
                pause = RETRY_SECONDS
                # A squeue that does not answer is asked again after this pause.
                with contextlib.suppress(NoAnswerError):
                    rows = squeue(
                        ("JobID", "Comment", "StdOut"),
                        filter(None, [cluster]),
                        [self.run_uuid],
                        "--states",
                        "all",
                    )
            for row in rows or []:
                is_this_job = job_name_in_row(row) == job_name_in_comment(comment)
                if is_this_job and row["JobID"] not in self._submitted_ids:
                    return row["JobID"]
        return ""

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncIterator[SubmittedJobInfo]:
        """Report the jobs that have ended, and yield the others.

        Each question without an end of a job makes the pause before the next question longer.
        """
        first_pause = self.workflow.executor_settings.init_seconds_before_status_checks
        pause = first_pause
        unfinished = []
        # Snakemake may call this before the executor is complete; then there are no jobs.
        if active_jobs:
            pause = min(self.next_seconds_between_status_checks + 10, LONGEST_PAUSE_SECONDS)
            async with self.status_rate_limiter:
                states = await asyncio.to_thread(self._states, active_jobs)
        for info in active_jobs:
            meaning, state = states.get(info.external_jobid or "", (Meaning.SUBMITTED, ""))
            if meaning in (Meaning.ENDED, Meaning.UNKNOWN):
                pause = first_pause
                await asyncio.to_thread(self._report_end, info, state)
            else:
                unfinished.append(info)
        self.next_seconds_between_status_checks = pause
        for info in unfinished:
            yield info

    def _states(self, infos: Sequence[SubmittedJobInfo]) -> Mapping[str, tuple[Meaning, str]]:
        """The meaning and the state of each job, by Slurm's id; {} if asking failed.

        A pending job that excludes a failed node gets it back once no other node is up.
        """
        jobs = [info.external_jobid or "" for info in infos]
        try:
            states = self._asker.states(jobs)
            for job in self._excluded.keys() & states.keys():
                node, cluster, partition = self._excluded[job]
                meaning, _ = states[job]
                if meaning == Meaning.PENDING and not nodes_up(cluster, partition) - {node}:
                    del self._excluded[job]
                    clusters = clusters_option(filter(None, [cluster]))
                    run(["scontrol", *clusters, "update", f"JobId={job}", "ExcNodeList="])
            return states
        except Exception as error:
            # An error here would end the run, though its jobs run on.
            self._warn_once(f"nothing is known of jobs now ({error!r}); they run on")
            return {}

    def _report_end(self, info: SubmittedJobInfo, state: str) -> None:
        """Report the end of a job to Snakemake, or submit the job again if the machines failed.

        Args:
            info: The job.
            state: Slurm's state of it, or "" if Slurm has forgotten the job.
        """
        job, log = info.job, info.aux["slurm_logfile"]
        job_id = info.external_jobid or ""
        if state in ("", "COMPLETED"):
            # Snakemake itself then checks whether the outputs are there.
            self.report_job_success(info)
            return
        reason, node = self._reason_and_node(job_id, log)
        fault = fault_of_end(state, reason)
        message = f"{state}, {reason}" if reason else state
        if fault == Fault.MACHINES and self._count_machine_fault(job.jobid):
            self._failed_node[job.jobid] = node if state == "NODE_FAIL" else ""
            where = f" on {node}" if node else ""
            self.logger.warning(
                f"{_job_name(job)}: job {job_id} ended by {state}{where}; it "
                "is submitted again, which counts as no try"
            )
            # Snakemake gets no report of this end, so it does not count a try of the job.
            self._job_submission_executor.submit(self.run_job, job)
            return
        if fault == Fault.MEMORY and not self._gets_more_memory(job):
            message += "; a retry would ask for no more memory: give it more in the profile"
            # Each retry would fail in the same way.
            _without_retry(job)
        self.report_job_error(info, msg=f"{message}\n", aux_logs=[str(log)])

    def _gets_more_memory(self, job: Any) -> bool:
        """Whether the next try of a job asks for more memory; True if no try is left."""
        now = _memory(resources_of(job, job.attempt, self._site))
        next_time = _memory(resources_of(job, job.attempt + 1, self._site))
        return job.attempt > job.restart_times or next_time > now

    def _count_machine_fault(self, job: int) -> bool:
        """Count a machine fault; return True if the job is submitted again without using up a try.

        Args:
            job: Snakemake's number of the job.

        Returns:
            False if the run is ending, and after every 20th machine fault of the job, which uses up
            a try (`FAULTS_PER_TRY`).
        """
        self._machine_faults[job] += 1
        # Snakemake sets `_user_kill` when it gets SIGTERM.
        is_stopping = self.stopped.is_set() or self.workflow.scheduler._user_kill
        return not is_stopping and self._machine_faults[job] % FAULTS_PER_TRY > 0

    def _reason_and_node(self, job: str, log: Path) -> tuple[str, str]:
        """Find out why a job failed, and on which node.

        Args:
            job: Slurm's id.
            log: Slurm's log of the job.

        Returns:
            The reason, with its duration and Slurm's messages in the log, as `it ran 00:05:12 of
            00:05:00; Exceeded job memory limit`, and the name of its node, or "".
        """
        options = ["-X", "-n", "-P", "--format=Elapsed,Timelimit,NodeList", "-j", job]
        options += clusters_option(self.slurm.facts["clusters"])
        done = run(["sacct", *options], ANSWER_SECONDS)
        reasons: list[str] = []
        node = ""
        row = done.stdout.strip().split("|")
        if len(row) == 3:
            elapsed, limit, node = row
            reasons = [f"it ran {elapsed} of {limit}"]
        # A job that ended early has no log.
        with contextlib.suppress(OSError, EpicError):
            reasons += dict.fromkeys(SLURM_MESSAGE.findall(read_text(log, errors="replace")))
        # Names of nodes are ASCII, so any other text is no name of a node.
        return "; ".join(reasons), (node if node.isascii() else "")

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs of the run, also those whose submission was not answered yet."""
        try:
            self.slurm.cancel(self.slurm.jobs())
        except (EpicError, NoAnswerError) as error:
            self.logger.warning(f"jobs are not cancelled: {error}")


class NotSubmittedError(RuntimeError):
    """A job could not be submitted.

    Args:
        message: The reason.
        never: Whether a retry would fail as well.
    """

    def __init__(self, message: str, never: bool = False):
        """Keep the message, and whether a retry would fail as well."""
        super().__init__(message)
        self.never = never


def _without_retry(job: Any) -> None:
    """Set the attempt of a job to its last one, after which Snakemake does not try it again."""
    job.attempt = max(job.attempt, job.restart_times + 1)


def _comment(job: Any) -> str:
    """The comment with which the plugin submits a job, as `rule_scan_wildcards_P01`."""
    wildcards = plugin.get_job_wildcards(job)
    return f"rule_{job.name}_wildcards_{wildcards}" if wildcards else f"rule_{job.name}"


def _job_name(job: Any) -> str:
    """The rule and the wildcards of a job, as `scan P01`, which is also `ClusterJob.about`."""
    return job_name_in_comment(_comment(job))


def digest_of_request(job: Any) -> str:
    """A digest of a job's inputs, outputs and parameters, by which equal jobs are recognized."""
    work = [list(map(str, job.input)), list(map(str, job.output)), dict(job.params.items())]
    return hashlib.sha256(json.dumps(work, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _memory(resources: Mapping[str, Any]) -> float:
    """The memory of a request in MiB for each node or each GPU, to compare the tries of a job.

    It is not multiplied by the number of GPUs, which is the same for each try.
    """
    per_core = resources.get("mem_mb_per_cpu")
    cores = resources.get("cpus_per_task") or resources.get("cpus_per_gpu") or 1
    return float(per_core * cores if per_core else resources.get("mem_mb") or 0)


def job_id_in(printed: str) -> str:
    """Find the job's id in the output of `sbatch --parsable`, as `4711` or `4711;wice`; "" if none.

    A site's own sbatch may print more lines, also with numbers.
    """
    # Only Slurm prints a line with a cluster. Without such a line, the last number is the id.
    with_cluster = re.findall(r"(?m)^\s*(\d+);[\w.-]+\s*$", printed)
    ids = with_cluster or re.findall(r"(?m)^\s*(\d+)\s*$", printed)
    return ids[-1] if ids else ""
