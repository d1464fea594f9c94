"""What is asked before any job is submitted: would Slurm take it, and can torch use its GPU?

Slurm answers the first itself (`sbatch --test-only`), for each distinct request that the executor
will make. Some it would take, but charge for what nobody uses: more cores because of the memory,
nodes or tasks that idle. Those are found with the site's facts.
"""

import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError

from epic100.base.jobs import STATED
from epic100.slurm.commands import message_of, on, run
from epic100.slurm.failures import NO_NODE, Fault, of_request
from epic100.slurm.site import NO_ACCOUNT, Partition, Partitions

# Snakemake has resolved these resources of one job.
Resources = Mapping[str, Any]
# It has the name of a job, the attempt, its resources (runtime in minutes, memory in MiB) and its
# threads.
Request = tuple[str, int, Resources, int]

# Every rule but one is a process on one node, and starts others itself. More of these would idle
# but be charged. A training over several nodes has `mpi` and as many tasks as nodes.
SINGLE = ("nodes", "tasks", "tasks_per_gpu", "tasks_per_node")
# These errors of sbatch are about the state of Slurm, and not about the request.
UNCLEAR = re.compile(
    r"[Uu]nable to (contact|establish)|can't be reached|problem talking|[Cc]onnection|[Tt]imed out"
    r"|Zero Bytes|[Tt]emporar|endpoint|[Aa]uthentication|credential|SubmitJobs?\w*Limit"
    r"|not respond|[Cc]ommunication|try again|[Rr]esource temporarily|[Ss]ocket|presently disabled"
)
# Slurm's messages use these words for a key of a job's resources.
WORDS = {
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
NO_SLURM = re.compile("configuration source|sbatch: (command )?not found")
HEAD = (
    "Nothing was submitted: Slurm would refuse these requests, or charge for what is not used. "
    "Change the keys named here in the profile, or with `--set-resources RULE:KEY=VALUE`:"
)
# The states of nodes that are away begin with these words.
AWAY = ("down", "drain", "fail", "unknown")


# CUDA builds answer this without a GPU; `torch.cuda.get_arch_list` needs one.
_ASK = "import torch; print(torch.__version__, torch._C._cuda_getArchFlags() or '')"


class _Attributes(dict):
    """Resources as the executor reads them."""

    __getattr__ = dict.get


def cluster_of(resources: Resources) -> str:
    """The cluster that the executor passes to sbatch; "" if it passes none."""
    names = (resources.get(key) for key in ("cluster", "clusters", "slurm_cluster"))
    return str(next(filter(None, names), ""))


def partition_of(resources: Resources, partitions: Partitions) -> Partition | None:
    """The partition of a job, with what Slurm tells of it; None if the site's file lacks it."""
    where = cluster_of(resources), resources.get("slurm_partition")
    matching = (
        partition
        for partition in partitions.values()
        if (partition.clusters, partition.name) == where
    )
    return next((partition.completed() for partition in matching), None)


def check_requests(workflow: Any, settings: Any, partitions: Partitions) -> list[str]:
    """Refuse a run whose requests Slurm would not grant, or whose GPUs torch cannot use.

    Args:
        workflow: Snakemake's, with its DAG.
        settings: The executor's.
        partitions: Those of the site.

    Returns:
        The clusters of its jobs; empty means this machine's own.

    Raises:
        WorkflowError: It names each request.
    """
    requests = list(requests_of(workflow.dag.needrun_jobs(), partitions))
    if not settings.unchecked:
        why = refusal(requests, settings, partitions)
        # The torch of another environment (conda, a container) is not known here.
        if not workflow.deployment_settings.deployment_method:
            why = why or unserved(requests, partitions)
        if why:
            raise WorkflowError(why)
    return sorted({cluster_of(resources) for _, _, resources, _ in requests} - {""})


def requests_of(jobs: Iterable[Any], partitions: Partitions) -> Iterator[Request]:
    """The requests of all that will be submitted, retries included."""
    for job in jobs:
        for attempt in range(1, job.restart_times + 2) if not job.is_local else ():
            name = " ".join([job.rule.name, *map(str, job.wildcards)])
            yield name, attempt, resources_of(job, attempt, partitions), job.threads


def resources_of(job: Any, attempt: int, partitions: Partitions) -> Resources:
    """What one attempt of a job asks for: what its rule, the profile and the command line say.

    Snakemake puts these in order (`epic100.base.jobs`). The wall time is at most the
    partition's, unless the command line states it.
    """
    expanded = job.rule.expand_resources(
        job.wildcards_dict, job.input, attempt, skip_evaluation={"tmpdir"}
    )
    resources = dict(expanded.items())
    at = partition_of(resources, partitions)
    stated_keys = str(resources.get(STATED, "")).split("+")
    if at and at.hours and "runtime" not in stated_keys and resources.get("runtime"):
        resources["runtime"] = min(resources["runtime"], at.minutes(at.hours))
    return resources


def refusal(requests: Sequence[Request], settings: Any, partitions: Partitions) -> str:
    """Describe every request that Slurm would refuse, or charge in vain, in one text, or return "".

    Of requests that differ in their wall time alone, the longest is asked for.

    Args:
        requests: Of each attempt of each job.
        settings: The executor's.
        partitions: Those of the site.
    """
    if any(resources.get("slurm_account") == NO_ACCOUNT for _, _, resources, _ in requests):
        return f"Nothing was submitted: {NO_ACCOUNT} is an example; {OWN_ACCOUNT}"
    requests_by_call: defaultdict[str, list[Request]] = defaultdict(list)
    # Snakemake holds its jobs in a set: their order differs from one run to the next.
    for request in sorted(requests, key=lambda request: request[:2]):
        _, _, resources, threads = request
        requests_by_call[_tried({**resources, "runtime": None}, threads, settings)].append(request)
    # The keys are faults, the values the first attempt of each job that has it.
    attempts_by_fault: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for call, alike in requests_by_call.items():
        # A job whose earlier attempt has a fault is not reported again.
        reported = {name for attempts in attempts_by_fault.values() for name in attempts}
        alike = [request for request in alike if request[0] not in reported]
        alike.sort(key=lambda request: -request[2].get("runtime", 0))
        if alike:
            longest = alike[0][2]
            at = partition_of(longest, partitions)
            for fault in _refused(call, longest, at) or list(_in_vain(call, longest, at)):
                for name, attempt, _, _ in alike:
                    attempts_by_fault[fault].setdefault(name, attempt)
    lines = [f"{_some(attempts)}: {fault}" for fault, attempts in attempts_by_fault.items()]
    return "\n".join([HEAD, *lines]) if lines else ""


def command_of(resources: Resources, threads: int, settings: Any, **parameters: Any) -> str:
    """The plugin's call of sbatch, without the job's command.

    Args:
        resources: The job's. Without an account, sbatch takes the user's own; the plugin would
            ask the database, which may be away.
        threads: The job's.
        settings: The executor's.
        parameters: More that the plugin puts into it.

    Raises:
        WorkflowError: The plugin does not take them.
    """
    options = {"-A": resources.get("slurm_account"), "-p": resources.get("slurm_partition")}
    account, partition = (
        f"{option} {shlex.quote(str(value))}" if value else "" for option, value in options.items()
    )
    job = SimpleNamespace(resources=_Attributes(resources), threads=threads)
    plugin.validate_slurm_extra(job)
    params = {"account": account, "partition": partition, **parameters}
    return str(plugin.get_submit_command(job, params, settings) + plugin.set_gres_string(job))


def _tried(resources: Resources, threads: int, settings: Any) -> str:
    """A call of sbatch for a job of such resources, or one that says why there is none."""
    parameters = {"run_uuid": "epic100", "slurm_logfile": os.devnull, "comment_str": ""}
    try:
        return command_of(resources, threads, settings, **parameters, workdir="")
    except WorkflowError as error:
        return f"echo {shlex.quote(str(error))} >&2; false"


def _refused(call: str, resources: Resources, at: Partition | None) -> list[str]:
    """What Slurm has against a request; empty if nothing, or if it does not answer now."""
    time = f" -t {shlex.quote(str(resources['runtime']))}" if resources.get("runtime") else ""
    done = run(["sh", "-c", f"{call}{time} --test-only --wrap true"])
    message = message_of(done)
    is_away = UNCLEAR.search(message) and of_request(message) == Fault.LATER
    if done.returncode in (0, 124) or is_away:
        return []
    if NO_NODE in message:
        partition = str(resources.get("slurm_partition"))
        states = node_states(cluster_of(resources), partition)
        if not states or not all(states.values()):  # It may be granted when all are up.
            return []
    if NO_SLURM.search(message):
        return [f"{message}: this machine has no Slurm that answers; call from a login node"]
    keys = [key for key, pattern in WORDS.items() if re.search(pattern, message, re.IGNORECASE)]
    request = ", ".join(f"{key}={resources[key]}" for key in keys if resources.get(key))
    if "account" in message:
        request += f" ({OWN_ACCOUNT})"
    return [f"{message}: {request}" + (f"; {at}" if at else "")]


def nodes_up(cluster: str, partition: str) -> set[str]:
    """The nodes of a partition that are not away now. If all are, sbatch says that it has none."""
    return {node for node, is_up in node_states(cluster, partition).items() if is_up}


def node_states(cluster: str, partition: str) -> dict[str, bool]:
    """Whether each node of a partition is up now; empty where Slurm does not say."""
    options = ["--noheader", "-N", "--format", "%N %T", "--partition", partition]
    done = run(["sinfo", *on(filter(None, [cluster])), *options])
    rows = (line.split() for line in done.stdout.splitlines())
    return {row[0]: not row[1].startswith(AWAY) for row in rows if len(row) == 2}


def _in_vain(call: str, resources: Resources, at: Partition | None) -> Iterator[str]:
    """What Slurm would take, but charge for more than is used."""
    numbers = {key: value for key, value in resources.items() if type(value) is int}
    spans_nodes = resources.get("mpi") and numbers.get("tasks") == numbers.get("nodes")
    for name in SINGLE:
        if not spans_nodes and numbers.get(name, 1) > 1:
            yield f"{name}={numbers[name]}: each rule is one task on one node, the rest idles"
    cores = re.search(r" --cpus-per-(task|gpu)=(\d+)", call)
    if at is None or cores is None:
        return
    gpus = numbers.get("gpu", 0) // (numbers["nodes"] if spans_nodes else 1)
    # The job gets this many cores on each node.
    granted = int(cores[2]) * (gpus if cores[1] == "gpu" else 1)
    key = "mem_mb_per_cpu" if resources.get("mem_mb_per_cpu") else "mem_mb"
    memory = numbers.get(key, 0) * (granted if key == "mem_mb_per_cpu" else 1)
    if at.mem_mb_per_core and memory > granted * at.mem_mb_per_core:
        need = -(-memory // at.mem_mb_per_core)
        yield (
            f"{key}={resources[key]}: {memory} MiB with {granted} cores on {at.cluster}/{at.name}, "
            f"which gives {at.mem_mb_per_core} a core: Slurm would take, and charge, {need} cores"
        )


def _some(jobs: Mapping[str, int]) -> str:
    names = [f"{name} (retry {first - 1})" if first > 1 else name for name, first in jobs.items()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def kernels_of_torch() -> tuple[str, list[str]]:
    """torch's version, and the architectures it has kernels for (`sm_80`, `compute_90`).

    Returns:
        Version and architectures, or ("", []) if this Python has no CUDA build of torch. Such a job
        needs no check here, because it fails at once with its own error.
    """
    done = subprocess.run([sys.executable, "-P", "-c", _ASK], capture_output=True, text=True)
    version, *kernels = done.stdout.split() or [""]
    return (version, kernels) if done.returncode == 0 and kernels else ("", [])


def serve(kernels: list[str], sm: int) -> bool:
    """Whether one of these kernels runs on a GPU of compute capability `sm` (70 means 7.0).

    Rule: CUDA C++ Programming Guide, "Compute Capabilities". Machine code (`sm_`) runs on its own
    major version from its minor version up. PTX (`compute_`) also runs on everything newer. A
    letter, as in `sm_90a`, limits a kernel to exactly that capability.
    """
    for code, number, letter in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(kernels)):
        built = int(number)
        lasts = code == "compute" or built // 10 == sm // 10
        if built == sm or (not letter and lasts and built <= sm):
            return True
    return False


def unserved(
    requests: Iterable[Request],
    partitions: Partitions,
    torch: Callable[[], tuple[str, list[str]]] = kernels_of_torch,
) -> str:
    """Report which jobs would get a GPU that this environment's torch cannot use.

    Args:
        requests: Of each attempt of each job.
        partitions: Those of the site; `sm` is the compute capability of a partition's GPUs.
        torch: Returns torch's version and kernels; called only if a job requests a GPU.

    Returns:
        A text with one line per partition, or "" if no problem is known.
    """
    of_gpu_jobs = [
        partition_of(resources, partitions)
        for _, _, resources, _ in requests
        if resources.get("gpu")
    ]
    gpu_partitions = {f"{at.cluster}/{at.name}": at for at in of_gpu_jobs if at and at.sm}
    version, kernels = torch() if gpu_partitions else ("", [])
    lines = [
        f"{name} has GPUs of sm_{at.sm}, for which torch {version} of this environment has no "
        f"kernels (it has {' '.join(kernels)}): `make install CUDA={12 if at.sm < 75 else 13}` "
        "installs one that has them (docs/platforms.md)"
        for name, at in gpu_partitions.items()
        if kernels and not serve(kernels, at.sm)
    ]
    return "\n".join(["Nothing was submitted.", *lines]) if lines else ""
