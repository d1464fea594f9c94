"""Start a training: in this process, or by torchrun in several, on one node or on several."""

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch

from epic100.base.atomic import write_text
from epic100.base.errors import EpicError
from epic100.base.gpu import look_for_gpus
from epic100.base.jobs import JOB_ID
from epic100.base.log import log_to_stdout
from epic100.base.machine import usable_cores
from epic100.base.stop import GO_ON, SIGNALS, handling
from epic100.settings import TrainSettings
from epic100.training.plan import Placement, choose_device
from epic100.training.train import train

# A process waits this long for another. A step takes seconds, but a slow disk may come back.
TIMEOUT = timedelta(minutes=30)
# The processes of the other nodes have this long to save when those of one node have ended.
SAVE_SECONDS = 120


@dataclass(frozen=True)
class Request:
    """A training of several processes, which each of them reads from a file.

    Args:
        settings: The `train:` section.
        arguments: The other arguments of `train`.
        launcher: Id of the process of the rule; None if the others may be on other nodes.
    """

    settings: TrainSettings
    arguments: Mapping[str, Any]
    launcher: int | None


def launch(settings: TrainSettings, *, requested_gpus: int = 0, **arguments: Any) -> None:
    """Train on the device and with the number of processes that the settings ask for.

    Args:
        settings: The `train:` section.
        requested_gpus: Number of GPUs that the rule requests from its scheduler.
        arguments: The other arguments of `train`.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; or a process failed, with
            its own message.
    """
    gpus = look_for_gpus(requested_gpus)
    placement = choose_device(settings.device, settings.gpus, gpus, settings.nodes)
    # MMEngine uses any GPU that it sees, and this process sees its GPUs already. So a training on
    # the CPU then needs another process.
    if placement.processes == 1 and (placement.device == "cuda" or not gpus.visible):
        return train(settings, **arguments)
    command, launcher = torchrun(placement), os.getpid() if placement.nodes == 1 else None
    work_dirs = Path(arguments["results"], "work_dirs")
    work_dirs.mkdir(parents=True, exist_ok=True)
    # All nodes see this folder.
    with tempfile.TemporaryDirectory(prefix=".ranks_", dir=work_dirs) as folder:
        request = Path(folder, "request")
        request.write_bytes(pickle.dumps(Request(settings, arguments, launcher)))
        process = subprocess.Popen(
            [*command, "-m", "epic100.training.launch", str(request)],
            env=os.environ | _environment(placement),
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
            raise _error_of(Path(folder), process.returncode)


def torchrun(placement: Placement) -> list[str]:
    """Make the command that starts the processes of a training, without the program they run.

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


def _environment(placement: Placement) -> dict[str, str]:
    """Make the environment variables of the processes of a training."""
    # Snakemake sets OMP_NUM_THREADS to the threads of the rule, and torch reads it.
    threads = min(torch.get_num_threads(), usable_cores())
    return {
        "OMP_NUM_THREADS": str(max(1, threads // placement.on_node)),
        # Without it, torchrun's ranks would have the working folder on their import path.
        "PYTHONSAFEPATH": "1",
        # On these signals torchrun sends its ranks the same. They save before they end.
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGUSR1",
        **({"CUDA_VISIBLE_DEVICES": ""} if placement.device == "cpu" else {}),
    }


def _error_of(folder: Path, code: int) -> EpicError:
    """Make the error of a training from the first message that a process has left in a folder."""
    messages = sorted(folder.glob("error_*"), key=lambda path: path.stat().st_mtime_ns)
    if messages:
        return EpicError(messages[0].read_text(encoding="utf-8"))
    # It was killed, or a library failed; torchrun has printed which process, and why.
    return EpicError(f"training ended, because torchrun ended with exit code {code}; {GO_ON}")


def be_rank(file: Path) -> None:
    """Connect to the other processes, and train; torchrun starts this in each process.

    The message of an error is left beside the file, for `launch`.

    Args:
        file: The file with the `Request`.
    """
    request: Request = pickle.loads(file.read_bytes())  # noqa: S301
    number, on_gpu = int(os.environ["RANK"]), torch.cuda.is_available()
    if request.launcher:
        threading.Thread(target=_end_without, args=(request.launcher,), daemon=True).start()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # MMEngine would call `torch.cuda.set_device` here, which fails in a CPU build of torch.
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        train(request.settings, **request.arguments)
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
