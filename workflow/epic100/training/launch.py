"""Start a training: in this process, in several on this node, or on several nodes.

On several nodes of a job, the process of the rule runs on the first one. Through the scheduler it
starts a process on each node, which starts the node's ranks (`base.ranks`).

The ranks meet in a file on one node, at one address over several nodes. torch's default is a store
that listens on all addresses of the node and unpickles whatever anyone sends to it. Neither way
here does.
"""

import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import uuid
import warnings
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import psutil
import torch
from torch.distributed import PrefixStore, TCPStore

from epic100.base.errors import EpicError
from epic100.base.gpu import look_for_gpus
from epic100.base.machine import usable_cores
from epic100.base.ranks import (
    PROCESS,
    SAVE_SECONDS,
    cause_of,
    private_folder,
    run_ranks,
)
from epic100.base.scheduler import here
from epic100.base.stop import GO_ON, forwarding
from epic100.settings import TrainSettings
from epic100.training.plan import Placement, choose_device
from epic100.training.train import train
from epic100.video.index_file import FOLDER as SHARED_INDEXES

log = logging.getLogger(__name__)

# A process waits this long for another. A step takes seconds, but a slow disk may come back.
TIMEOUT_MINUTES = 30.0
# This folder is always on the node itself; $TMPDIR may be on a network disk.
SHARED_MEMORY = "/dev/shm"
# A line of output that begins with this character is the error of a node.
ERROR = "\x1e"
# Gloo and NCCL read the name of their network interface from these environment variables.
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
# The processes of all nodes must connect within this time.
WAIT_SECONDS = 600


@dataclass(frozen=True)
class Nodes:
    """The nodes of a training.

    Args:
        address: IPv4 address of the first node, which the others connect to.
        port: Port on that address.
        run_id: A random name that only the nodes of this training know.
        host: Name of the first node.
        rank: Name of the environment variable that contains the number of a node.
    """

    address: str
    port: int
    run_id: str
    host: str = ""
    rank: str = ""


@dataclass(frozen=True)
class Job:
    """The description of a training that each of its processes gets.

    Args:
        settings: The `train:` section.
        arguments: The other arguments of `train`.
        requested_gpus: Number of GPUs that the rule requests for a node.
        nodes: The nodes of the training; None means this one only.
        timeout_minutes: Minutes that one process waits for another.
        init_method: URL at which the ranks of one node meet, such as `file:///dev/shm/ranks`.
    """

    settings: TrainSettings
    arguments: dict[str, Any]
    requested_gpus: int = 0
    nodes: Nodes | None = None
    timeout_minutes: float = TIMEOUT_MINUTES
    init_method: str = ""


def launch(settings: TrainSettings, *, requested_gpus: int = 0, **arguments: Any) -> None:
    """Train on the device and with the number of processes that the settings ask for.

    Args:
        settings: The `train:` section.
        requested_gpus: Number of GPUs that the rule requests from its scheduler.
        arguments: The other arguments of `train`.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; or a process failed (with
            its own message) or was killed by a signal.
    """
    gpus = look_for_gpus(requested_gpus)
    placement = choose_device(settings.device, settings.gpus, gpus, settings.nodes)
    # This process sees its GPUs already, and MMEngine uses any that it sees. So a training on the
    # CPU needs another process, which sees none.
    hides_gpus = placement.device == "cpu" and gpus.visible > 0
    if hides_gpus:
        settings = settings.model_copy(update={"device": "cpu"})
    job = Job(settings, arguments, requested_gpus)
    if settings.nodes > 1:
        _train_on_nodes(job)
    elif placement.processes > 1 or hides_gpus:
        _start_ranks(job, placement)
    else:
        train(settings, **arguments)


def _train_on_nodes(job: Job) -> None:
    """Start the training on all nodes of this job, and wait for its end.

    Raises:
        EpicError: The error that ended the training.
    """
    count = job.settings.nodes
    launcher, rank_variable = here().on_nodes(count, wait=SAVE_SECONDS)
    address = own_address()
    nodes = Nodes(
        address=address,
        port=free_port(address),
        run_id=uuid.uuid4().hex,
        host=socket.gethostname(),
        rank=rank_variable,
    )
    log.info(f"training on {count} nodes, which meet at {address}:{nodes.port}")
    with tempfile.TemporaryFile() as call_file:
        # The process of a node reads its call from its standard input (`base.ranks`). The 0 stands
        # for its parent process, with which it ends.
        pickle.dump((0, start_node, replace(job, nodes=nodes)), call_file)
        call_file.seek(0)
        launcher_process = subprocess.Popen(
            [*launcher, sys.executable, "-u", "-P", "-m", PROCESS, "/dev/stdin"],
            stdin=call_file,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    errors: list[EpicError] = []
    with launcher_process, forwarding(launcher_process.send_signal):
        for line in launcher_process.stdout or ():
            if line.startswith(ERROR):
                errors.append(EpicError(json.loads(line.removeprefix(ERROR))))
            else:
                sys.stdout.write(line)
    if errors:
        raise cause_of(errors)
    if launcher_process.returncode:
        raise EpicError(
            f"training ended, because {launcher[0]} ended with exit code "
            f"{launcher_process.returncode} (its reason stands above); {GO_ON}"
        )


def start_node(job: Job) -> None:
    """Start the ranks of this node, which is one of several nodes, and wait for them.

    Raises:
        EpicError: As `launch`. It is also printed, for the process of the rule on the first node.
    """
    nodes = job.nodes
    host = socket.gethostname()
    assert nodes is not None, "a process of a node needs the description of all nodes"
    try:
        if nodes.host != host and nodes.address.startswith("127."):
            raise EpicError(
                f"the name of the first node, {nodes.host}, is {nodes.address} there, where {host} "
                "cannot reach it; set GLOO_SOCKET_IFNAME to the interface of the network between "
                "the nodes"
            )
        settings = job.settings
        gpus = look_for_gpus(job.requested_gpus)
        _start_ranks(job, choose_device(settings.device, settings.gpus, gpus, settings.nodes))
    except EpicError as error:
        sys.stdout.write(f"{ERROR}{json.dumps(str(error))}\n")
        raise


def _start_ranks(job: Job, placement: Placement) -> None:
    """Start the ranks of this node and wait for them."""
    # Snakemake sets OMP_NUM_THREADS to the threads of the rule, and torch reads it.
    threads = min(torch.get_num_threads(), usable_cores())
    # The indexes are on a disk, because shared memory is scarce in containers.
    with private_folder() as indexes, private_folder(SHARED_MEMORY) as folder:
        job = replace(job, init_method=f"file://{folder}/ranks")
        environment = {
            "WORLD_SIZE": str(placement.processes),
            "LOCAL_WORLD_SIZE": str(placement.on_node),
            "OMP_NUM_THREADS": str(max(1, threads // placement.on_node)),
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",  # `torchrun` sets this too.
            SHARED_INDEXES: indexes,
            **towards(job.nodes.address if job.nodes else "127.0.0.1"),
            # MMEngine uses any GPU that it sees, so a training on the CPU hides them all.
            **({"CUDA_VISIBLE_DEVICES": ""} if placement.device == "cpu" else {}),
        }
        first_rank = int(os.environ[job.nodes.rank]) * placement.on_node if job.nodes else 0
        environments = [
            environment | {"RANK": str(first_rank + number), "LOCAL_RANK": str(number)}
            for number in range(placement.on_node)
        ]
        with forwarding(_send_to_ranks):
            run_ranks([(train_rank, job)] * len(environments), environments, first_rank)


def train_rank(job: Job) -> None:
    """Connect to the other ranks of the training, and train; a rank's process calls this.

    Raises:
        EpicError: The training cannot go on.
    """
    # Only a 1x1x1 weight causes this warning: two strides describe the same layout.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    rank = int(os.environ["RANK"])
    processes = int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # MMEngine could make the group of processes too, but it then calls `torch.cuda.set_device`,
    # which fails in a CPU build of torch.
    if processes > 1:
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            # Ranks of one node meet in a file, and those of several nodes in a store at an address.
            init_method=None if job.nodes else job.init_method,
            store=open_store(job.nodes, rank, processes) if job.nodes else None,
            rank=rank,
            world_size=processes,
            timeout=timedelta(minutes=job.timeout_minutes),
        )
    train(job.settings, **job.arguments)
    if processes > 1:
        torch.distributed.destroy_process_group()


def _send_to_ranks(signal_number: int) -> None:
    """Send a signal to the ranks of this node.

    They run in sessions of their own, so a signal to this process does not reach them. The command
    of a rank has the name of the module `base.ranks` in it (`PROCESS`).
    """
    for child in psutil.Process().children():
        if PROCESS in child.cmdline():
            child.send_signal(signal_number)


def open_store(nodes: Nodes, rank: int, processes: int) -> PrefixStore:
    """Open the store at which the ranks of all nodes meet: rank 0 serves it, the others connect.

    Torch's own store listens on all addresses of the node, this one on a single address.

    Args:
        nodes: The nodes.
        rank: Rank of this process.
        processes: Number of processes, over all nodes.

    Raises:
        EpicError: The address cannot be used, or a process does not come in time.
    """
    address = (nodes.address, nodes.port)
    try:
        store = TCPStore(
            *address,
            world_size=processes,
            is_master=rank == 0,
            timeout=timedelta(seconds=WAIT_SECONDS),
            # With the descriptor of a socket that listens on this address, torch opens no other.
            master_listen_fd=socket.create_server(address).detach() if rank == 0 else None,
        )
    except (OSError, RuntimeError) as error:  # Errors of torch's store are RuntimeErrors.
        raise EpicError(
            f"process {rank} of {processes} cannot use {nodes.address}:{nodes.port}, where the "
            f"nodes of this training meet ({str(error).splitlines()[0]}); set GLOO_SOCKET_IFNAME "
            "to the interface of the network between the nodes, or give the same command again"
        ) from error
    return PrefixStore(nodes.run_id, store)


def own_address() -> str:
    """Find the IPv4 address at which other nodes reach this one.

    It is the address of the interface in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME, or else the
    address of the machine's name.

    Raises:
        EpicError: The interface or the name has no IPv4 address.
    """
    for interface in [os.environ[name] for name in INTERFACES if os.environ.get(name)]:
        addresses = psutil.net_if_addrs().get(interface, [])
        ipv4_addresses = [entry.address for entry in addresses if entry.family == socket.AF_INET]
        if not ipv4_addresses:
            raise EpicError(
                f"{' or '.join(INTERFACES)} is {interface}, which has no IPv4 address here; name "
                "the interface of the network between the nodes"
            )
        return ipv4_addresses[0]
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise EpicError(
            f"the name of this node, {socket.gethostname()}, has no IPv4 address ({error}); set "
            "GLOO_SOCKET_IFNAME to the interface of the network between the nodes"
        ) from error


def free_port(address: str) -> int:
    """Find a port that is free now on this address of this machine."""
    # The port 0 stands for any free one.
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def towards(address: str) -> dict[str, str]:
    """Make the environment variables that bind gloo and NCCL to the interface towards `address`.

    The interface that leads to 127.0.0.1 keeps them off the network. A variable that the user has
    set is left out, so that choice stays. NCCL may still send its data over InfiniBand.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # To connect a UDP socket sends nothing, but chooses the local address. The port may be any.
        probe.connect((address, 9))
        local_address, _ = probe.getsockname()
    interfaces = [
        name
        for name, entries in psutil.net_if_addrs().items()
        if local_address in [entry.address for entry in entries]
    ]
    unset = [variable for variable in INTERFACES if variable not in os.environ]
    return dict.fromkeys(unset, interfaces[0]) if interfaces else {}
