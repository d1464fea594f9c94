"""The executor of Slurm jobs: how one is submitted, and what becomes of it.

It is a subclass of snakemake-executor-plugin-slurm's, which hangs where sacct is away or a job is
cancelled by hand, and fails a job if sbatch fails once (contrib/upstream). The command of sbatch,
the options and the clean-up stay the plugin's. What answers and failures mean is in `answers` and
`failures`.
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
from epic100.slurm.commands import message_of, on, run, squeue
from epic100.slurm.failures import NO_NAME, NO_NODE, NO_PLACE, Fault, of_end, of_request
from epic100.slurm.limits import check_requests, cluster_of, command_of, nodes_up, resources_of
from epic100.slurm.scheduler import Slurm, about, about_of
from epic100.slurm.site import facts_file, read_partitions

# A call may take this long. After that, it is unknown whether its request arrived.
SBATCH_SECONDS = 120.0
RETRY_SECONDS = 15.0
# After this long, a request without an answer is in the queue or lost.
ARRIVAL_SECONDS = 30.0
LAST_POLL_SECONDS = 180.0
# One of so many ends of a job by the machines' fault counts as a try.
AGAIN = 20
SLURM_MESSAGE = re.compile(r"^(?:slurmstepd|slurmd|srun)[^:]*: error: (.+)$", re.MULTILINE)


class Executor(plugin.Executor):
    """Runs jobs on Slurm."""

    next_seconds_between_status_checks: Any

    def __post_init__(self, test_mode: bool = False) -> None:
        """Refuse requests that are never granted."""
        # Nothing that the plugin tells here is for the user.
        self.logger.disabled = True
        try:
            super().__post_init__(test_mode)
        finally:
            self.logger.disabled = False
        self.stopped = threading.Event()
        self._said: set[str] = set()
        self._submitted: set[str] = set()
        # The keys are rule and wildcards of jobs of a killed run.
        self._adopted: dict[str, ClusterJob] = {}
        # It names the node that has just failed under a job. The job's next request excludes it.
        self._barred: dict[int, str] = {}
        # It has node, cluster and partition of each request that excludes a node, by Slurm's id.
        self._kept_off: dict[str, tuple[str, str, str]] = {}
        # It counts the ends of a job by the machines' fault.
        self._again: Counter[int] = Counter()
        settings = self.workflow.executor_settings
        self._site = read_partitions(facts_file(self.workflow.rundir))
        clusters = check_requests(self.workflow, settings, self._site)
        self.slurm = Slurm([self.run_uuid], clusters)
        self._asker = Asker(self.slurm.facts, self._say, settings.status_command == "sacct")
        take_charge(self.slurm)

    def stop(self) -> None:
        """Let no submission wait any more, as on Ctrl-C."""
        self.stopped.set()

    def _say(self, words: str) -> None:
        """Tell the user something, once."""
        if words not in self._said:
            self._said.add(words)
            self.logger.warning(words)

    def adopt(self, theirs: Scheduler, left: Sequence[ClusterJob]) -> list[ClusterJob]:
        """Take jobs of a killed run for this one's, if this one would submit the same.

        Args:
            theirs: Finds them.
            left: Its jobs that have not ended.

        Returns:
            The others.
        """
        if self.workflow.executor_settings.leftovers == "adopt" and theirs.name == Slurm.name:
            by_about = {job.about: job for job in left}
            for job in self.workflow.dag.needrun_jobs():
                candidate = by_about.get(about(_comment(job)))
                if candidate and self._would_be(job, candidate):
                    self._adopted[candidate.about] = candidate
        if self._adopted:
            for key, values in theirs.facts.items():
                self.slurm.facts[key] += [v for v in values if v not in self.slurm.facts[key]]
        return [job for job in left if self._adopted.get(job.about) != job]

    def _would_be(self, job: Any, left: ClusterJob) -> bool:
        """Whether a job that was left is the newest of its target, and asks what this one asks."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, WorkflowError):
            record_path = newest_file([self.format_job_exec(job)])
            record = read_json(record_path)
            since = record_path.stat().st_mtime
            older = all(Path(path).stat().st_mtime < since for path in job.input)
            return older and record["token"] == left.id and record["asks"] == question_of(job)
        return False

    def run_job(self, job: Any) -> None:
        """Submit one job; called in a thread."""
        left = self._adopted.pop(about(_comment(job)), None)
        how = "goes on as" if left else "has been submitted with"
        try:
            job_id = left.id if left else self._submit(job)
            log = self._log_of(job, job_id)
            self.logger.info(f"Job {job.jobid} {how} SLURM jobid {job_id} (log: {log}).")
            info = SubmittedJobInfo(job, external_jobid=job_id, aux={"slurm_logfile": log})
            self._report_job_submission_threadsafe(info)
        except NotSubmittedError as error:
            job.attempt = max(job.attempt, job.restart_times + 1 if error.never else 0)
            self._report_job_error_threadsafe(SubmittedJobInfo(job), str(error))
        except Exception as error:
            self.logger.error(f"{about(_comment(job))} is not submitted: {error}", exc_info=True)
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {error}")

    def _log_of(self, job: Any, job_id: str) -> Path:
        rule = f"group_{job.name}" if job.is_group() else f"rule_{job.name}"
        log = self.slurm_logdir / rule / plugin.get_job_wildcards(job) / f"{job_id}.log"
        make_folder(log.parent)
        return log

    def _submit(self, job: Any) -> str:
        """Call sbatch until it answers clearly, and submit nothing twice; the job's id.

        Raises:
            NotSubmittedError: It is never granted, or patience has ended.
        """
        settings, barred = self.workflow.executor_settings, self._barred.pop(job.jobid, "")
        resources = resources_of(job, job.attempt, self._site)
        where = cluster_of(resources), str(resources.get("slurm_partition", ""))
        if barred and not nodes_up(*where) - {barred}:
            barred = ""
        call, script = self._request(resources, job)
        record_path = newest_file([self.format_job_exec(job)])
        name, shown, deadline = about(_comment(job)), "", time.monotonic() + 60 * settings.patience
        while not self.stopped.is_set():
            with contextlib.suppress(OSError):  # The file only saves work.
                record_path.unlink(missing_ok=True)
            exclude_option = f" --exclude={barred}" if barred else ""
            done = self._sbatch(call.replace("sbatch ", f"sbatch{exclude_option} ", 1), script)
            message = message_of(done)
            if done.returncode and barred and (NO_NAME in message or NO_NODE in message):
                barred = ""  # It is the only node, or one of another cluster.
                continue
            if done.returncode and of_request(message) == Fault.NEVER:
                raise NotSubmittedError(message, never=True)
            if done.returncode and shown != (shown := message):
                self.logger.warning(f"{name} cannot be submitted now, trying on: {shown}")
            elif not done.returncode and done.stderr.strip():
                self.logger.warning(f"{name}: {message}")  # It is accepted with a message.
            job_id = job_of(done.stdout) if done.returncode == 0 else ""
            is_full = bool(NO_PLACE.search(message))
            if not job_id and not is_full:
                job_id = self._arrival(cluster_of(resources), _comment(job), deadline)
            if job_id:
                self._submitted.add(job_id)
                if barred:
                    self._kept_off[job_id] = barred, *where
                with contextlib.suppress(EpicError):
                    write_text(record_path, json.dumps({"token": job_id, "asks": question_of(job)}))
                if shown:
                    self.logger.warning(f"{name} is submitted")
                return job_id
            if time.monotonic() > deadline and not is_full:
                raise NotSubmittedError(f"{message}, for {settings.patience} minutes")
            self.stopped.wait(RETRY_SECONDS)
        raise NotSubmittedError("not submitted, since the workflow has ended", never=True)

    def _request(self, resources: Mapping[str, Any], job: Any) -> tuple[str, str]:
        """The call of sbatch for a job, and what it reads from stdin."""
        call = command_of(
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
            return f"{call} /dev/stdin", f"#!/bin/sh\n{command}"
        escaped = command.replace('"', '\\"')
        return f'{call} --wrap="{escaped}"', ""

    def _sbatch(self, call: str, script: str) -> subprocess.CompletedProcess[str]:
        """One call of sbatch; exit status 124 if it does not answer, or if the run is stopped."""
        with tempfile.TemporaryFile("w+") as text:
            text.write(script)
            text.seek(0)
            process = subprocess.Popen(
                call,
                shell=True,
                stdin=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        deadline = time.monotonic() + SBATCH_SECONDS
        while True:
            try:
                out, err = process.communicate(timeout=0.5)
                return subprocess.CompletedProcess(call, process.returncode, out, err)
            except subprocess.TimeoutExpired:
                if self.stopped.is_set() or time.monotonic() > deadline:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    message = f"sbatch: no answer in {SBATCH_SECONDS:.0f} s"
                    return subprocess.CompletedProcess(call, 124, "", message)

    def _arrival(self, cluster: str, comment: str, end: float) -> str:
        """The id of the job of a request without an answer; "" if it did not arrive.

        A controller may answer squeue before a request that it got earlier, so it is asked once
        more after a while. A job that has ended since counts, one of an earlier request does not.
        """
        for pause in (0.0, ARRIVAL_SECONDS):
            rows = None
            while rows is None and not self.stopped.wait(pause) and time.monotonic() < end:
                pause = RETRY_SECONDS
                with contextlib.suppress(NoAnswerError):
                    rows = squeue(
                        ("JobID", "Comment", "StdOut"),
                        filter(None, [cluster]),
                        [self.run_uuid],
                        "--states",
                        "all",
                    )
            for row in rows or []:
                if about_of(row) == about(comment) and row["JobID"] not in self._submitted:
                    return row["JobID"]
        return ""

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncIterator[SubmittedJobInfo]:
        """Report the jobs that have ended, and yield the others."""
        first = self.workflow.executor_settings.init_seconds_before_status_checks
        pause, going_on = first, []
        # Without jobs, this may be called before the executor is complete.
        if active_jobs:
            before: float = self.next_seconds_between_status_checks
            pause = min(before + 10, LAST_POLL_SECONDS)
            async with self.status_rate_limiter:
                states = await asyncio.to_thread(self._states, active_jobs)
        for info in active_jobs:
            meaning, state = states.get(info.external_jobid or "", (Meaning.SUBMITTED, ""))
            if meaning in (Meaning.ENDED, Meaning.UNKNOWN):
                pause = first
                await asyncio.to_thread(self._ended, info, state)
            else:
                going_on.append(info)
        self.next_seconds_between_status_checks = pause
        for info in going_on:
            yield info

    def _states(self, infos: Sequence[SubmittedJobInfo]) -> Mapping[str, tuple[Meaning, str]]:
        jobs = [info.external_jobid or "" for info in infos]
        try:
            states = self._asker.states(jobs)
            for job in self._kept_off.keys() & states.keys():
                node, cluster, partition = self._kept_off[job]
                if states[job][0] == Meaning.PENDING and not nodes_up(cluster, partition) - {node}:
                    del self._kept_off[job]
                    arguments = ["update", f"JobId={job}", "ExcNodeList="]
                    run(["scontrol", *on(filter(None, [cluster])), *arguments])
            return states
        except Exception as error:  # A failed question must not end the run.
            self._say(f"nothing is known of jobs now ({error!r}); they run on")
            return {}

    def _ended(self, info: SubmittedJobInfo, state: str) -> None:
        """Report a job that has ended; one without a state is judged by its outputs."""
        job, job_id, log = info.job, info.external_jobid or "", info.aux["slurm_logfile"]
        if state in ("", "COMPLETED"):
            self.report_job_success(info)
            return
        reason, node = self._reason(job_id, log)
        fault = of_end(state, reason)
        message = "; ".join(filter(None, [f"{state}, {reason}" if reason else state]))
        if fault == Fault.MACHINES and self._goes_again(job.jobid):
            self._barred[job.jobid] = node if state == "NODE_FAIL" else ""
            where = f" on {node}" if node else ""
            self.logger.warning(
                f"{about(_comment(job))}: job {job_id} ended by {state}{where}; it "
                "is submitted again, which counts as no try"
            )
            self._job_submission_executor.submit(self.run_job, job)
            return
        if fault == Fault.MEMORY and not self._grows(job):
            message += "; a retry would ask for no more memory: give it more in the profile"
            job.attempt = max(job.attempt, job.restart_times + 1)
        self.report_job_error(info, msg=f"{message}\n", aux_logs=[str(log)])

    def _grows(self, job: Any) -> bool:
        """Whether the next try of a job, if one is left, asks for more memory."""
        now, then = (_memory(resources_of(job, job.attempt + more, self._site)) for more in (0, 1))
        return job.attempt > job.restart_times or then > now

    def _goes_again(self, job: int) -> bool:
        """Count one more end by the machines' fault; whether it uses up no try of the job."""
        self._again[job] += 1
        stopping = self.stopped.is_set() or self.workflow.scheduler._user_kill
        return not stopping and self._again[job] % AGAIN > 0

    def _reason(self, job: str, log: Path) -> tuple[str, str]:
        """Why a job failed: how long it ran, what Slurm wrote into its log; and its node."""
        options = ["-X", "-n", "-P", "--format=Elapsed,Timelimit,NodeList", "-j", job]
        done = run(["sacct", *on(self.slurm.facts["clusters"]), *options], ANSWER_SECONDS)
        facts = done.stdout.strip().split("|")
        spent = ["it ran {} of {}".format(*facts)] if len(facts) == 3 else []
        text = ""
        with contextlib.suppress(OSError, EpicError):
            text = read_text(log, errors="replace")
        node = facts[2] if len(facts) == 3 and facts[2].isascii() else ""
        return "; ".join([*spent, *dict.fromkeys(SLURM_MESSAGE.findall(text))]), node

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs of the run, also those whose submission was not answered yet."""
        try:
            self.slurm.cancel(self.slurm.jobs())
        except (EpicError, NoAnswerError) as error:
            self.logger.warning(f"jobs are not cancelled: {error}")


class NotSubmittedError(RuntimeError):
    """A job could not be submitted; `never` is whether a retry could not be either."""

    def __init__(self, words: str, never: bool = False):
        super().__init__(words)
        self.never = never


def _comment(job: Any) -> str:
    """What the plugin gives sbatch as comment: rule and wildcards."""
    wildcards = plugin.get_job_wildcards(job)
    return f"rule_{job.name}_wildcards_{wildcards}" if wildcards else f"rule_{job.name}"


def question_of(job: Any) -> str:
    """A digest of what a job computes: its files and parameters."""
    facts = [list(map(str, job.input)), list(map(str, job.output)), dict(job.params.items())]
    return hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _memory(resources: Mapping[str, Any]) -> float:
    """The memory that a request is about, up to a factor that does not change with the try."""
    per_core = resources.get("mem_mb_per_cpu")
    cores = resources.get("cpus_per_task") or resources.get("cpus_per_gpu") or 1
    return float(per_core * cores if per_core else resources.get("mem_mb") or 0)


def job_of(printed: str) -> str:
    """The job id in what `sbatch --parsable` printed; a site's own sbatch may print more lines.

    "" if there is none: then the queue tells.
    """
    with_cluster = re.findall(r"(?m)^\s*(\d+);[\w.-]+\s*$", printed)
    ids = with_cluster or re.findall(r"(?m)^\s*(\d+)\s*$", printed)
    return ids[-1] if ids else ""
