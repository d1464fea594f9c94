"""Start a training: in this process, in several on this node, or on several nodes through srun.

torch starts the processes of a node (the ranks) as torchrun does, and ends all of them when one
fails. The command itself opens ports, turns every failure into exit code 1 and prints the reason
only in a table. On several nodes of a Slurm job, the process of the rule runs on the first one.
Through srun it starts `epic100.training.process` once on each node, which starts the node's ranks.
"""

import json
import logging
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    SignalException,
    Std,
    start_processes,
)
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from epic100.base.errors import EpicError
from epic100.base.gpu import look_for_gpus
from epic100.base.machine import usable_cores
from epic100.settings import TrainSettings
from epic100.training.meeting import Nodes, free_port, own_address, towards
from epic100.training.plan import Placement, choose_device
from epic100.training.stop import forwarding
from epic100.training.train import train
from epic100.video.index_file import FOLDER as SHARED_INDEXES

log = logging.getLogger(__name__)

PROCESS = "epic100.training.process"
WAITED = (
    "another process did not answer for half an hour (it hangs on its disk, or the network does)"
)
PATIENCE_MINUTES = 30.0  # a step takes seconds; a slow disk that comes back is worth the wait
SAVE_SECONDS = 120  # time for the other ranks to finish a step and save before they are killed
MEMORY = "/dev/shm"  # always node-local; $TMPDIR may not be
GO_ON = "the same command goes on from the last checkpoint"
ERROR = "\x1e"  # a line that begins so is the error of a node
# Reasons that may follow from the failure of another process, the likeliest cause first. SIGTERM is
# what the launcher ends the others with.
FOLLOWS = (
    r"process \d+ (was killed by (?!SIGTERM)|ended)",
    r"process \d+ (failed|found)",
    r"process \d+ was killed by SIGTERM|^stopped by",
)


@dataclass(frozen=True)
class Job:
    """What each process of a training is given.

    Args:
        settings: The `train:` section.
        arguments: The other arguments of `train`.
        asked: Number of GPUs that the rule requests for a node.
        nodes: The nodes of the training; None means this one only.
        patience: Minutes that one process waits for another.
        launcher: Process id of who starts the ranks, which end with it; 0 means their parent.
        init_method: Where the ranks of one node meet, as torch names it.
    """

    settings: TrainSettings
    arguments: dict[str, Any]
    asked: int = 0
    nodes: Nodes | None = None
    patience: float = PATIENCE_MINUTES
    launcher: int = 0
    init_method: str = ""


def launch(settings: TrainSettings, *, asked: int = 0, **arguments: Any) -> None:
    """Train on the device and with the number of processes that the settings ask for.

    Args:
        settings: The `train:` section.
        asked: Number of GPUs that the rule requests from its scheduler.
        arguments: The other arguments of `train`.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; or a process failed (with
            its own message) or was killed by a signal.
    """
    found = look_for_gpus(asked)
    placement = choose_device(settings.device, settings.gpus, found, settings.nodes)
    hidden = placement.device == "cpu" and found.visible > 0
    if hidden:
        settings = settings.model_copy(update={"device": "cpu"})
    job = Job(settings, arguments, asked, patience=PATIENCE_MINUTES)
    if settings.nodes > 1:
        _train_on_nodes(job)
    elif placement.processes > 1 or hidden:
        _start_ranks(job, placement)
    else:
        train(settings, **arguments)


def _train_on_nodes(job: Job) -> None:
    """Start the training on all nodes of this Slurm job, and raise the error that ended it."""
    count = job.settings.nodes
    if "SLURM_JOB_ID" not in os.environ:
        raise EpicError(
            f"train.nodes is {count}, but this is no Slurm job; expected one of {count} nodes, "
            "with `--profile profiles/vsc`; set `train: nodes: 1` to train on this machine"
        )
    address = own_address()
    nodes = Nodes(address, free_port(address), uuid.uuid4().hex, socket.gethostname())
    command = ["srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1",
               "--cpu-bind=none", f"--wait={SAVE_SECONDS}", sys.executable, "-u",
               "-P", "-m", PROCESS, "/dev/stdin"]  # fmt: skip
    log.info(f"training on {count} nodes, which meet at {address}:{nodes.port}")
    errors: list[EpicError] = []
    with tempfile.TemporaryFile() as file:
        pickle.dump(replace(job, nodes=nodes), file)
        file.seek(0)
        step = subprocess.Popen(
            command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )  # fmt: skip
    with step, forwarding(step.send_signal):
        for line in step.stdout or ():
            if line.startswith(ERROR):
                errors.append(EpicError(json.loads(line.removeprefix(ERROR))))
            else:
                sys.stdout.write(line)
    if errors:
        raise cause_of(errors)
    if step.returncode:
        raise EpicError(
            f"training ended, because srun ended with exit code {step.returncode} (its reason "
            f"stands above); {GO_ON}"
        )


def cause_of(errors: Iterable[EpicError]) -> EpicError:
    """The error that most likely caused the others, which came from other processes."""

    def rank(error: EpicError) -> int:
        found = (n for n, words in enumerate(FOLLOWS, start=1) if re.search(words, str(error)))
        return next(found, 0)

    return min(errors, key=rank)


def start_node(job: Job) -> None:
    """Start the ranks of this node, one of several, and wait for them.

    Raises:
        EpicError: As `launch`. It was printed for the launcher on the first node.
    """
    nodes, here = job.nodes, socket.gethostname()
    assert nodes is not None, "srun starts nodes only"
    try:
        if nodes.host != here and nodes.address.startswith("127."):
            raise EpicError(
                f"the name of the first node, {nodes.host}, is {nodes.address} there, where {here} "
                "cannot reach it; set GLOO_SOCKET_IFNAME to the interface of the network between "
                "the nodes"
            )
        settings, found = job.settings, look_for_gpus(job.asked)
        _start_ranks(job, choose_device(settings.device, settings.gpus, found, settings.nodes))
    except EpicError as error:
        sys.stdout.write(f"{ERROR}{json.dumps(str(error))}\n")
        raise


def _start_ranks(job: Job, placement: Placement) -> None:
    """Start the ranks of this node and wait for them."""
    threads = min(torch.get_num_threads(), usable_cores())  # Snakemake states those of the rule
    with private_folder() as logs, private_folder(MEMORY) as folder:
        job = replace(job, launcher=os.getpid(), init_method=f"file://{folder}/ranks")
        file = Path(folder) / "job"
        file.write_bytes(pickle.dumps(job))
        environment = {
            "WORLD_SIZE": str(placement.processes),
            "LOCAL_WORLD_SIZE": str(placement.on_node),
            "OMP_NUM_THREADS": str(max(1, threads // placement.on_node)),
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",  # as torchrun has it
            SHARED_INDEXES: logs,  # on a disk: shared memory is scarce in containers
            **towards(job.nodes.address if job.nodes else "127.0.0.1"),
            # MMEngine uses any GPU that it sees.
            **({"CUDA_VISIBLE_DEVICES": ""} if placement.device == "cpu" else {}),
        }
        first = int(os.environ["SLURM_PROCID"]) * placement.on_node if job.nodes else 0
        own = {
            number: environment | {"RANK": str(first + number), "LOCAL_RANK": str(number)}
            for number in range(placement.on_node)
        }
        command = ("-u", "-P", "-m", PROCESS, str(file))
        try:
            with forwarding(_tell_ranks):
                ranks = start_processes(
                    "ranks", sys.executable, dict.fromkeys(own, command), own,
                    DefaultLogsSpecs(log_dir=logs, tee=Std.ALL),
                    {number: f"rank {first + number}: " for number in own},
                )  # fmt: skip
                try:
                    ended = ranks.wait(period=0.1)
                finally:
                    ranks.close(timeout=SAVE_SECONDS)
        except SignalException as error:
            what = f"stopped by {error.sigval.name}, and the processes with it"
            raise EpicError(f"{what}; {GO_ON}") from error
        failures = list(ended.failures.values()) if ended else []
        if failures:
            failures.sort(key=lambda failure: failure.timestamp)
            raise cause_of(error_of(first + each.local_rank, each) for each in failures)


def private_folder(parent: str | None = None) -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can enter (mode 0700), in `parent` if that is writable."""
    usable = parent is not None and os.access(parent, os.W_OK | os.X_OK)
    return tempfile.TemporaryDirectory(prefix="epic100_ranks_", dir=parent if usable else None)


def error_of(rank: int, failure: ProcessFailure) -> EpicError:
    """The error of a process that failed: its own, or in words how it ended.

    Args:
        rank: Rank of the process.
        failure: What torch recorded about it.
    """
    message, ended = failure.message, f"training ended, because process {rank}"
    if isinstance(message, dict):
        kind, _, words = message["message"].partition(": ")
        if kind == EpicError.__name__:
            return EpicError(words)
        why = f"failed with {kind}: {words.splitlines()[0]} (its traceback is above)"
        if "imed out" in words:
            why = f"found that {WAITED}"
    elif failure.exitcode > 0:
        why = f"ended with exit code {failure.exitcode} (its reason stands above)"
    elif failure.exitcode == -signal.SIGABRT:
        why = (
            f"was killed by SIGABRT (NCCL ends it so where {WAITED}; or CUDA or the C library "
            "failed)"
        )
    else:
        why = f"was killed by {failure.signal_name()} (out of memory, or by hand)"
    return EpicError(f"{ended} {why}; {GO_ON}")


def _tell_ranks(number: int) -> None:
    """Send a signal to the ranks, which run in sessions of their own."""
    for child in psutil.Process().children():
        if PROCESS in child.cmdline():
            child.send_signal(number)
