"""Checks before any job is submitted: would Slurm grant each request, and can torch use its GPU?

Slurm answers the first question itself (`sbatch --test-only`), for each distinct request that the
executor will make. Slurm would grant some requests, but charge for what nobody uses: more cores
because of the memory, or nodes and tasks that idle. The limits of the partitions show these.
"""

import math
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError

from epic100.base.jobs import STATED
from epic100.slurm.commands import TIMED_OUT, clusters_option, message_of, run
from epic100.slurm.failures import NO_NODE, Fault, fault_of_request
from epic100.slurm.site import NO_ACCOUNT, Partition, Partitions

# The resources of one job by their names in Snakemake, as numbers or texts and no functions.
Resources = Mapping[str, Any]


class Request(NamedTuple):
    """A request to Slurm: one attempt of a job, as `scan P01`, with its resources and threads.

    The resource `runtime` is in minutes, memory is in MiB.
    """

    job: str
    attempt: int
    resources: Resources
    threads: int


# Every rule but one is a process on one node, and starts others itself. So nodes and tasks beyond
# the first would idle, but be charged. Only a training over several nodes uses more
# (`_nodes_in_use`).
ONE_PER_JOB = ("nodes", "tasks", "tasks_per_gpu", "tasks_per_node")
# These errors of sbatch are about the state of Slurm, and not about the request.
UNCLEAR = re.compile(
    r"[Uu]nable to (contact|establish)|can't be reached|problem talking|[Cc]onnection|[Tt]imed out"
    r"|Zero Bytes|[Tt]emporar|endpoint|[Aa]uthentication|credential|SubmitJobs?\w*Limit"
    r"|not respond|[Cc]ommunication|try again|[Rr]esource temporarily|[Ss]ocket|presently disabled"
)
# The keys are resources of a job. The pattern of each matches Slurm's messages about it.
PATTERNS = {
    "slurm_account": "account",
    "clusters": "cluster",
    "slurm_partition": "partition",
    "runtime": "time",
    "qos": "qos",
    "constraint": "node|feature",
    "nodes": "node",
    "tasks": "task",
    "cpus_per_task": "node|core|cpus",
    "cpus_per_gpu": "node|core|cpus",
    "gpu": "node|gpu",
    "gres": "node|gres",
    "mem_mb_per_cpu": "node|mem",
    "mem_mb": "memory",
    "slurm_extra": "node name|reservation",
}
OWN_ACCOUNT = "set yours, or EPIC100_ACCOUNT; `sam-balance` or `sshare -U` lists them"
# These errors mean that no Slurm can be asked from this machine.
NO_SLURM = re.compile("configuration source|sbatch: (command )?not found")
# The first lines of a refusal, before a line for each fault.
HEAD = (
    "Nothing was submitted: Slurm would refuse these requests, or charge for what is not used. "
    "Change the keys named here in the profile, or with `--set-resources RULE:KEY=VALUE`:"
)
# A fault names this many of the jobs that have it.
NAMED_JOBS = 3
# The states of nodes that are away begin with these words.
AWAY = ("down", "drain", "fail", "unknown")
# The builds of torch for CUDA 13 have no kernels for GPUs below this compute capability.
FIRST_OF_CUDA_13 = 75
# A CUDA build of torch answers this program without a GPU; `torch.cuda.get_arch_list` needs one.
_TORCH_PROGRAM = "import torch; print(torch.__version__, torch._C._cuda_getArchFlags() or '')"


class _Attributes(dict):
    """Resources that the plugin reads as attributes; one that is not set is None."""

    __getattr__ = dict.get


def cluster_of(resources: Resources) -> str:
    """The cluster that the executor passes to sbatch; "" if it passes none.

    The plugin takes the first of three keys that is set.
    """
    names = (resources.get(key) for key in ("cluster", "clusters", "slurm_cluster"))
    return str(next(filter(None, names), ""))


def partition_of(resources: Resources, partitions: Partitions) -> Partition | None:
    """The partition that a job asks for, with Slurm's limits; None if the file does not have it."""
    requested = cluster_of(resources), resources.get("slurm_partition")
    matching = (
        partition
        for partition in partitions.values()
        if (partition.clusters, partition.name) == requested
    )
    return next((partition.completed() for partition in matching), None)


def check_requests(workflow: Any, settings: Any, partitions: Partitions) -> list[str]:
    """Refuse a run whose requests Slurm would not grant or torch cannot use; list its clusters.

    With `settings.unchecked`, nothing is refused.

    Args:
        workflow: Snakemake's workflow, with its DAG.
        settings: The executor's settings.
        partitions: The site's partitions.

    Returns:
        The clusters of the run's jobs; empty means this machine's own.

    Raises:
        WorkflowError: A request cannot be granted or used; the error names each of these.
    """
    requests = list(requests_of(workflow.dag.needrun_jobs(), partitions))
    if not settings.unchecked:
        fault = refusal(requests, settings, partitions)
        # The torch of another environment (conda, a container) is not known here.
        if not workflow.deployment_settings.deployment_method:
            fault = fault or partitions_without_kernels(requests, partitions)
        if fault:
            raise WorkflowError(fault)
    return sorted({cluster_of(request.resources) for request in requests} - {""})


def requests_of(jobs: Iterable[Any], partitions: Partitions) -> Iterator[Request]:
    """The requests of all jobs that will be submitted, with a request for each possible retry."""
    for job in jobs:
        for attempt in range(1, job.restart_times + 2) if not job.is_local else ():
            name = " ".join([job.rule.name, *map(str, job.wildcards)])
            yield Request(name, attempt, resources_of(job, attempt, partitions), job.threads)


def resources_of(job: Any, attempt: int, partitions: Partitions) -> Resources:
    """The resources that one attempt of a job asks for, from its rule, profile and command line.

    Snakemake decides which of these three comes first (`epic100.base.jobs`). The wall time is at
    most the partition's, unless the command line states it.
    """
    # The folder `tmpdir` is known only on the node of the job.
    resources = dict(
        job.rule.expand_resources(
            job.wildcards_dict, job.input, attempt, skip_evaluation={"tmpdir"}
        ).items()
    )
    partition = partition_of(resources, partitions)
    # `STATED`, a resource of our own, lists the keys that the command line sets for this rule, as
    # `runtime+mem_mb`.
    keys_of_call = str(resources.get(STATED, "")).split("+")
    if partition and partition.hours and resources.get("runtime") and "runtime" not in keys_of_call:
        resources["runtime"] = min(resources["runtime"], partition.minutes(partition.hours))
    return resources


def refusal(requests: Sequence[Request], settings: Any, partitions: Partitions) -> str:
    """Describe every request that Slurm would refuse, or grant but charge for more than is used.

    An example of the second is `tasks=2`: each rule is one task, so the other one would idle. Of
    several requests that differ only in their wall time, Slurm is asked for the longest.

    Args:
        requests: The requests of each attempt of each job.
        settings: The executor's settings.
        partitions: The site's partitions.

    Returns:
        A text with a line for each fault and the jobs that have it, or "".
    """
    if any(request.resources.get("slurm_account") == NO_ACCOUNT for request in requests):
        return f"Nothing was submitted: {NO_ACCOUNT} is an example; {OWN_ACCOUNT}"
    requests_by_call: defaultdict[str, list[Request]] = defaultdict(list)
    # Snakemake's set of jobs has another order in each run, and the text must not change with it.
    for request in sorted(requests, key=lambda request: (request.job, request.attempt)):
        # The wall time is left out, so requests that differ in nothing else have the same call.
        timeless = {**request.resources, "runtime": None}
        requests_by_call[_call_to_test(timeless, request.threads, settings)].append(request)
    # The keys are faults. The values name each job that has the fault, with its longest attempt.
    attempts_by_fault: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for sbatch_call, alike in requests_by_call.items():
        # A job whose earlier attempt has a fault is not reported again.
        reported = {name for attempts in attempts_by_fault.values() for name in attempts}
        not_reported = [request for request in alike if request.job not in reported]
        by_time = sorted(
            not_reported, key=lambda request: request.resources.get("runtime", 0), reverse=True
        )
        if by_time:
            # If Slurm grants the longest of requests that are alike, it grants all of them.
            longest = by_time[0].resources
            partition = partition_of(longest, partitions)
            faults = _faults_by_slurm(sbatch_call, longest, partition)
            for fault in faults or _faults_by_cost(sbatch_call, longest, partition):
                for request in by_time:
                    attempts_by_fault[fault].setdefault(request.job, request.attempt)
    lines = [f"{_names(attempts)}: {fault}" for fault, attempts in attempts_by_fault.items()]
    return "\n".join([HEAD, *lines]) if lines else ""


def command_of(resources: Resources, threads: int, settings: Any, **parameters: Any) -> str:
    """The call of sbatch that the plugin makes for a job, without the job's command.

    Args:
        resources: The job's resources. Without an account, sbatch takes the user's own; the plugin
            would ask the database, which may be away.
        threads: The job's threads.
        settings: The executor's settings.
        parameters: More values that the plugin writes into the call, as `comment_str`.

    Raises:
        WorkflowError: The plugin refuses these resources.
    """
    account, partition = (
        f"{option} {shlex.quote(str(resources[key]))}" if resources.get(key) else ""
        for option, key in (("-A", "slurm_account"), ("-p", "slurm_partition"))
    )
    job = SimpleNamespace(resources=_Attributes(resources), threads=threads)
    plugin.validate_slurm_extra(job)
    params = {"account": account, "partition": partition, **parameters}
    return str(plugin.get_submit_command(job, params, settings) + plugin.set_gres_string(job))


def _call_to_test(resources: Resources, threads: int, settings: Any) -> str:
    """The call of sbatch for these resources, or a call that fails with the plugin's own error."""
    # Slurm tests a request whatever its names and paths are.
    unused = {"run_uuid": "epic100", "slurm_logfile": os.devnull, "comment_str": "", "workdir": ""}
    try:
        return command_of(resources, threads, settings, **unused)
    except WorkflowError as error:
        # The caller then reports the plugin's error as it reports one of sbatch.
        return f"echo {shlex.quote(str(error))} >&2; false"


def _faults_by_slurm(
    sbatch_call: str, resources: Resources, partition: Partition | None
) -> list[str]:
    """The error with which Slurm refuses a request, in a list.

    It is [] if Slurm would grant the request, now or once all nodes are up, or does not answer.
    """
    time = f" -t {shlex.quote(str(resources['runtime']))}" if resources.get("runtime") else ""
    done = run(["sh", "-c", f"{sbatch_call}{time} --test-only --wrap true"])
    message = message_of(done)
    is_unclear = UNCLEAR.search(message) and fault_of_request(message) == Fault.LATER
    if done.returncode in (0, TIMED_OUT) or is_unclear:
        return []
    if NO_NODE in message:
        states = node_states(cluster_of(resources), str(resources.get("slurm_partition")))
        # Slurm tests with the nodes that are up, so the request may be granted when all are.
        if not states or not all(states.values()):
            return []
    if NO_SLURM.search(message):
        return [f"{message}: this machine has no Slurm that answers; call from a login node"]
    keys = [key for key, pattern in PATTERNS.items() if re.search(pattern, message, re.IGNORECASE)]
    request = ", ".join(f"{key}={resources[key]}" for key in keys if resources.get(key))
    if "account" in message:
        request += f" ({OWN_ACCOUNT})"
    return [f"{message}: {request}" + (f"; {partition}" if partition else "")]


def nodes_up(cluster: str, partition: str) -> set[str]:
    """The names of a partition's nodes that are up now."""
    return {node for node, is_up in node_states(cluster, partition).items() if is_up}


def node_states(cluster: str, partition: str) -> dict[str, bool]:
    """Map the name of each node of a partition to whether it is up; {} if sinfo does not answer."""
    # A line is as `m28c27n1 idle`.
    options = ["--noheader", "-N", "--format", "%N %T", "--partition", partition]
    done = run(["sinfo", *clusters_option(filter(None, [cluster])), *options])
    rows = [line.split() for line in done.stdout.splitlines()]
    return {row[0]: not row[1].startswith(AWAY) for row in rows if len(row) == 2}


def _faults_by_cost(
    sbatch_call: str, resources: Resources, partition: Partition | None
) -> list[str]:
    """The faults of a request that Slurm would grant, but charge for more than is used."""
    cores = re.search(r" --cpus-per-(?P<per>task|gpu)=(?P<count>\d+)", sbatch_call)
    if partition is None or cores is None:
        return _idle_tasks(resources)
    gpus_per_node = _int_resources(resources).get("gpu", 0) // _nodes_in_use(resources)
    cores_per_node = int(cores["count"]) * (gpus_per_node if cores["per"] == "gpu" else 1)
    faults_of_memory = _cores_charged_for_memory(resources, cores_per_node, partition)
    return [*_idle_tasks(resources), *faults_of_memory]


def _int_resources(resources: Resources) -> dict[str, int]:
    """Select the resources that are whole numbers."""
    # A resource may also be True, which is an `int` for `isinstance`.
    return {key: value for key, value in resources.items() if type(value) is int}


def _nodes_in_use(resources: Resources) -> int:
    """The number of nodes on which a job computes.

    It is 1, but for a training over several nodes. That job requests `mpi` and as many tasks as
    nodes, so that its one task on each node starts the processes there, and no node idles.
    """
    numbers = _int_resources(resources)
    has_task_on_each_node = numbers.get("tasks") == numbers.get("nodes")
    return numbers.get("nodes", 1) if resources.get("mpi") and has_task_on_each_node else 1


def _idle_tasks(resources: Resources) -> list[str]:
    """A fault for each resource that requests nodes or tasks on which nothing would run."""
    numbers = {} if _nodes_in_use(resources) > 1 else _int_resources(resources)
    return [
        f"{key}={numbers[key]}: each rule is one task on one node, the rest idles"
        for key in ONE_PER_JOB
        if numbers.get(key, 1) > 1
    ]


def _cores_charged_for_memory(
    resources: Resources, cores_per_node: int, partition: Partition
) -> list[str]:
    """A fault, in a list, if Slurm charges more cores than requested because of the memory."""
    key = "mem_mb_per_cpu" if resources.get("mem_mb_per_cpu") else "mem_mb"
    requested_mib = _int_resources(resources).get(key, 0)
    memory_mib = requested_mib * (cores_per_node if key == "mem_mb_per_cpu" else 1)
    usual_mib_per_core = partition.mem_mb_per_core
    # Slurm gives more cores to a job with much memory, until each core has its usual memory. A
    # usual memory of 0 is unknown.
    if not usual_mib_per_core or memory_mib <= cores_per_node * usual_mib_per_core:
        return []
    return [
        f"{key}={resources[key]}: {memory_mib} MiB with {cores_per_node} cores on "
        f"{partition.cluster}/{partition.name}, which gives {usual_mib_per_core} a core: Slurm "
        f"would take, and charge, {math.ceil(memory_mib / usual_mib_per_core)} cores"
    ]


def _names(attempts: Mapping[str, int]) -> str:
    """Name up to three jobs with the retry that has a fault: `scan P01 (retry 1), scan P02`."""
    names = [
        f"{job} (retry {attempt - 1})" if attempt > 1 else job for job, attempt in attempts.items()
    ]
    others = f" and {len(names) - NAMED_JOBS} more" if len(names) > NAMED_JOBS else ""
    return ", ".join(names[:NAMED_JOBS]) + others


def kernels_of_torch() -> tuple[str, list[str]]:
    """Ask torch for its version, and for the architectures it has kernels for (`sm_80`, ...).

    Returns:
        Version and architectures, or ("", []) if this Python has no CUDA build of torch. A job on a
        GPU then needs no check here, because it fails at once with its own error.
    """
    # A process of its own imports torch, so that Snakemake does not hold its memory.
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TORCH_PROGRAM], capture_output=True, text=True
    )
    # The program prints the version first, and then the architectures.
    version, *kernels = done.stdout.split() or [""]
    return (version, kernels) if done.returncode == 0 and kernels else ("", [])


def any_runs_on(kernels: list[str], sm: int) -> bool:
    """Whether one of these kernels runs on a GPU of compute capability `sm` (70 means 7.0).

    Rule: CUDA C++ Programming Guide, "Compute Capabilities". Machine code (`sm_`) runs on its own
    major version from its minor version up. PTX (`compute_`) also runs on everything newer. A
    letter, as in `sm_90a`, limits a kernel to exactly that capability.
    """
    for code, number, letter in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(kernels)):
        built_for = int(number)
        # The capability 86 is version 8.6, so `// 10` gives the major version.
        runs_on_newer = code == "compute" or built_for // 10 == sm // 10
        if built_for == sm or (not letter and runs_on_newer and built_for <= sm):
            return True
    return False


def partitions_without_kernels(
    requests: Iterable[Request],
    partitions: Partitions,
    torch_kernels: Callable[[], tuple[str, list[str]]] = kernels_of_torch,
) -> str:
    """Report the partitions with GPUs that jobs would get, but torch cannot use.

    Args:
        requests: The requests of each attempt of each job.
        partitions: The site's partitions; `sm` is the compute capability of a partition's GPUs.
        torch_kernels: Returns torch's version and kernels; called only if a job requests a GPU.

    Returns:
        A text with one line per partition, or "" if no problem is known.
    """
    partitions_of_jobs = [
        partition_of(request.resources, partitions)
        for request in requests
        if request.resources.get("gpu")
    ]
    # A dictionary keeps each partition once, and in the order of the jobs.
    gpu_partitions = {
        f"{partition.cluster}/{partition.name}": partition
        for partition in partitions_of_jobs
        if partition and partition.sm
    }
    version, kernels = torch_kernels() if gpu_partitions else ("", [])
    lines = [
        f"{name} has GPUs of sm_{partition.sm}, for which torch {version} of this environment has "
        f"no kernels (it has {' '.join(kernels)}): `make install "
        f"CUDA={12 if partition.sm < FIRST_OF_CUDA_13 else 13}` installs one that has them "
        "(docs/platforms.md)"
        for name, partition in gpu_partitions.items()
        if kernels and not any_runs_on(kernels, partition.sm)
    ]
    return "\n".join(["Nothing was submitted.", *lines]) if lines else ""
