"""The GPUs of a job, and a function called in several processes, which torchrun starts.

A paid GPU must not stay idle: torch sees no GPU if the driver is too old or if torch was built
without CUDA, and it reports neither. A job that then trained on the CPU would only seem slow.
The processes are on one node, or on all of a job.
"""

import functools
import logging
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from epic100.base.atomic import write_text
from epic100.base.errors import EpicError
from epic100.base.lock import JOB_ID
from epic100.base.log import log_to_stdout
from epic100.base.machine import usable_cores
from epic100.base.stop import GO_ON, SIGNALS, handling

log = logging.getLogger(__name__)

# First words of `CUDA_VISIBLE_DEVICES` that mean no GPU. Some schedulers write `NoDevFiles`.
NO_DEVICE = ("", "-1", "NoDevFiles")


def unusable(device: str = "cuda") -> str | None:
    """Return torch's reason why it cannot compute on a GPU (first line only); None if it can."""
    try:
        torch.ones(1, device=device).add(1).item()
    except (RuntimeError, AssertionError) as error:  # A build of torch without CUDA asserts.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0].rstrip(".")
    return None


@dataclass(frozen=True)
class Gpus:
    """The GPUs of this process.

    Attributes:
        visible: Number of GPUs that torch sees.
        granted: Evidence that the job was granted a GPU, as text for messages, or None.
        has_device_files: Whether the machine has device files of GPUs.
        why_not: A function that returns torch's reason why it cannot compute on the first GPU, or
            None. It starts CUDA, so it is called only when the answer matters.
    """

    visible: int
    granted: str | None = None
    has_device_files: bool = False
    why_not: Callable[[], str | None] = unusable


def look_for_gpus(requested: int = 0, environment: Mapping[str, str] = os.environ) -> Gpus:
    """Find the GPUs of this process.

    Args:
        requested: Number of GPUs that the rule requests (its resource `gpu`). It counts in a
            cluster's job.
        environment: Environment variables.
    """
    # What grants a GPU: Slurm, the caller, or else the rule's request within a job of Slurm.
    granted = None
    # Slurm sets both variables, and the first one also where the site does not bind GPUs to jobs.
    for variable in ("SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"):
        device_list = environment.get(variable, "").strip()
        if granted is None and device_list.split(",")[0] not in NO_DEVICE:
            granted = f"{variable} is {device_list}"
    if granted is None and requested and JOB_ID in environment:
        granted = f"the rule's resource `gpu` is {requested} in job {environment[JOB_ID]}"
    return Gpus(
        visible=torch.cuda.device_count(),
        granted=granted,
        has_device_files=any(Path("/dev").glob("nvidia[0-9]*")),
        # A second call returns the first answer, so that CUDA is started once.
        why_not=functools.cache(unusable),
    )


# The name of this module, which each process runs.
PROCESS = "epic100.base.processes"
# A process waits this long for another. A step takes seconds, but a slow disk may come back.
TIMEOUT = timedelta(minutes=30)
# Seconds for which the other nodes may save, once the processes of one node have ended.
SAVE_SECONDS = 120


@dataclass(frozen=True)
class Placement:
    """The device, processes and nodes of a training or a prediction.

    Args:
        device: "cuda" or "cpu".
        processes: Number of processes that work together, over all nodes; on CUDA each has its
            own GPU.
        nodes: Number of nodes, which have equally many processes.
    """

    device: str
    processes: int
    nodes: int = 1

    @property
    def on_node(self) -> int:
        """Number of processes on each node."""
        return self.processes // self.nodes


def choose_device(
    section: str, device: str, gpus: int | None, available: Gpus, nodes: int = 1
) -> Placement:
    """Choose the device and the number of processes of a training or a prediction.

    Args:
        section: `train` or `predict`, for messages.
        device: The section's key `device`: auto, cuda or cpu.
        gpus: The section's key `gpus`, the number of GPUs on each node, or of processes on the CPU.
            None means one GPU if there is one, otherwise the CPU.
        available: The GPUs of this process.
        nodes: `train: nodes:`.

    Raises:
        EpicError: A GPU was granted or requested, but torch cannot use it.
    """
    count = gpus or 1
    on_cpu = Placement("cpu", count * nodes, nodes)
    if device == "cpu" or gpus == 0:
        return on_cpu
    # With several GPUs, the ranks are other processes, so CUDA is not started in this one.
    why_not = available.why_not() if count == 1 or available.visible < count else None
    if available.visible >= count and why_not is None:
        return Placement("cuda", count * nodes, nodes)
    # Without a reason to need a GPU, the CPU computes instead.
    reason_for_gpu = available.granted
    if gpus:
        reason_for_gpu = f"{section}.gpus is {gpus}"
    elif device == "cuda":
        reason_for_gpu = f"{section}.device is cuda"
    torch_finding = f"torch {torch.__version__} sees {available.visible} GPUs here"
    if why_not:
        torch_finding += f" and cannot use one ({why_not})"
    if reason_for_gpu is not None:
        raise EpicError(
            f"{reason_for_gpu}, but {torch_finding}; expected at least {count}: install a torch "
            "that fits the driver and the GPU (docs/platforms.md), ask for enough of them, or set "
            f"`{section}: device: cpu` to compute on the CPU"
        )
    if available.visible or available.has_device_files:
        log.warning(f"{section}: this machine has a GPU, but {torch_finding}: on the CPU instead")
    return on_cpu


def run_processes(
    function: Callable[..., None],
    arguments: Mapping[str, Any],
    placement: Placement,
    folder: str | os.PathLike,
) -> None:
    """Call a function in each of several processes, and wait until all have ended.

    If one fails, the others are ended. A signal to this process is sent to all.

    Args:
        function: A function of a module.
        arguments: Its arguments by name.
        placement: The processes.
        folder: A folder that all nodes see.

    Raises:
        EpicError: A process failed, with its own message.
    """
    command = torchrun(placement)
    # Snakemake sets OMP_NUM_THREADS to the threads of the rule, and torch reads it.
    threads = min(torch.get_num_threads(), usable_cores()) // placement.on_node
    environment = os.environ | {
        "OMP_NUM_THREADS": str(max(1, threads)),
        # Without it, torchrun's ranks would have the working folder on their import path.
        "PYTHONSAFEPATH": "1",
        # On these signals torchrun sends its ranks the same. They save before they end.
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGUSR1",
    }
    if placement.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ranks_", dir=folder) as private_folder:
        request = Path(private_folder, "request")
        # The others may be on other nodes, where no id of a process here says anything.
        launcher = os.getpid() if placement.nodes == 1 else None
        request.write_bytes(pickle.dumps((partial(function, **arguments), launcher)))
        process = subprocess.Popen(
            [*command, "-m", PROCESS, str(request)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C reaches it through this process alone, so once.
            start_new_session=True,
        )
        with process, handling(SIGNALS, lambda number, _: process.send_signal(number)):
            for line in process.stdout or ():
                sys.stdout.write(line)
        if process.returncode:
            # The first process that failed has left a message, or none: it was killed, or a library
            # failed. Then torchrun has printed which process, and why.
            messages = list(Path(private_folder).glob("error_*"))
            if not messages:
                code = process.returncode
                raise EpicError(f"stopped, because torchrun ended with exit code {code}; {GO_ON}")
            first = min(messages, key=lambda path: path.stat().st_mtime_ns)
            raise EpicError(first.read_text(encoding="utf-8"))


def torchrun(placement: Placement) -> list[str]:
    """Make the command that starts several processes, without the program they run.

    On several nodes Slurm starts torchrun on each, and they meet at the first one.

    Raises:
        EpicError: Several nodes are asked for outside a job of Slurm.
    """
    words = [sys.executable, "-u", "-P", "-m", "torch.distributed.run"]
    words.append(f"--nproc-per-node={placement.on_node}")
    if placement.nodes == 1:
        return [*words, "--standalone"]
    if JOB_ID not in os.environ:
        raise EpicError(
            f"train.nodes is {placement.nodes}, but this is no job of Slurm; expected one of that "
            "many nodes, with `--profile profiles/vsc`; set `train: nodes: 1` to train here"
        )
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    meeting = f"{socket.gethostname()}:{port}"
    words += [f"--nnodes={placement.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}"]
    # A task on each node, with all cores of the job there. When one has ended, the others have time
    # to save.
    tasks = [f"--nodes={placement.nodes}", f"--ntasks={placement.nodes}", "--ntasks-per-node=1"]
    return ["srun", *tasks, "--cpu-bind=none", f"--wait={SAVE_SECONDS}", *words]


def be_rank(file: Path) -> None:
    """Connect to the other processes, and make the call; torchrun starts this in each process.

    The message of an error is left next to the file, for `run_processes`.

    Args:
        file: The file with the call as a function without arguments, and the id of the process
            that started torchrun, or None; both as a pickle.
    """
    make_call, launcher = pickle.loads(file.read_bytes())  # noqa: S301
    number, on_gpu = int(os.environ["RANK"]), torch.cuda.is_available()
    if launcher:
        threading.Thread(target=_end_without, args=(launcher,), daemon=True).start()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # MMEngine would call `torch.cuda.set_device` here, which fails in a CPU build of torch.
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        make_call()
    except Exception as error:
        text = str(error)
        if not isinstance(error, EpicError):
            traceback.print_exc()
            text = (
                f"process {number} failed with {type(error).__name__}: {text[:150]}; if it lost "
                "its connection, another process was killed (out of memory, or by hand; torchrun's "
                f"table above names it); {GO_ON}"
            )
        write_text(file.with_name(f"error_{number}"), text)
        sys.exit(1)
    torch.distributed.destroy_process_group()


def _end_without(launcher: int) -> None:
    """End this process when the launcher has ended: an orphan would keep its GPU."""
    while psutil.pid_exists(launcher):
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    log_to_stdout()
    be_rank(Path(sys.argv[1]))
