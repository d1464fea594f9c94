"""One process of a training that has several, started with a job (`launch.Job`) in a file.

On each node srun starts one that starts the others; these are the ranks, which `launch` starts:

    srun --ntasks-per-node=1 ... python -m epic100.training.process /dev/stdin < JOB
    LOCAL_RANK=0 RANK=0 WORLD_SIZE=2 ... python -m epic100.training.process JOB
"""

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from datetime import timedelta
from pathlib import Path

# Until training installs its own handler, a request to save must not kill the starting process.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

import torch.distributed  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import record  # noqa: E402

from epic100.base.errors import EpicError  # noqa: E402
from epic100.base.log import log_to_stdout  # noqa: E402
from epic100.training.launch import Job, start_node  # noqa: E402
from epic100.training.meeting import open_store  # noqa: E402
from epic100.training.train import train  # noqa: E402


@record
def rank(job: Job) -> None:
    """Join the other ranks and train; `record` writes the reason of a failure for the launcher.

    Raises:
        EpicError: The training cannot go on. It has this class and no other, which the launcher
            knows by its name.
    """
    _end_with(job.launcher or os.getppid())
    # Only a 1x1x1 weight causes this warning: two strides describe the same layout.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    number, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        if processes > 1:  # before MMEngine, which asks for a GPU even in a CPU build and fails
            torch.distributed.init_process_group(
                "nccl" if torch.cuda.is_available() else "gloo",
                init_method=None if job.nodes else job.init_method,
                store=open_store(job.nodes, number, processes) if job.nodes else None,
                rank=number,
                world_size=processes,
                timeout=timedelta(minutes=job.patience),
            )
        train(job.settings, **job.arguments)
    except EpicError as error:
        raise EpicError(str(error)) from error
    if processes > 1:
        torch.distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """Exit when the launcher dies: an orphaned rank would write into the next run's folder."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(path: str) -> None:
    """Be the rank that `launch` starts, or else the node that srun starts."""
    log_to_stdout()
    job = pickle.loads(Path(path).read_bytes())
    try:
        if "LOCAL_RANK" in os.environ:
            rank(job)
        else:
            start_node(job)
    except EpicError:
        sys.exit(1)  # the launcher reports it, once


if __name__ == "__main__":
    main(sys.argv[1])
