"""One process of a training with several: torchrun starts it with a job as a Python literal.

torchrun --standalone --nproc-per-node 2 -m epic100.training.rank "{'settings': {...}, ...}"
"""

import ast
import os
import signal
import sys
import threading
import time
import warnings
from datetime import timedelta

# Until training installs its own handler, a request to save must not kill the starting process.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

import torch.distributed  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import record  # noqa: E402

from epic100.base.errors import EpicError, last_line  # noqa: E402
from epic100.base.log import log_to_stdout  # noqa: E402


@record
def main(job: dict) -> None:
    """Join the other processes and train; `record` writes the reason of a failure for the launcher.

    Args:
        job: Keyword arguments of `run.train`, plus `launcher` (process id), `store`, `patience`
            (minutes that one process waits for another) and `modules`.
    """
    log_to_stdout()
    _end_with(job.pop("launcher", os.getppid()))
    # Only a 1x1x1 weight causes this warning: two strides describe the same layout.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    from epic100.settings import TrainSettings
    from epic100.training.run import train

    settings = TrainSettings.model_validate(job.pop("settings"))
    patience = job.pop("patience", 30.0)  # plain torchrun names none
    store = job.pop("store", None)  # file of one node; None means torchrun's port
    several = int(os.environ["WORLD_SIZE"]) > 1
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if several:  # before MMEngine, which asks for a GPU even in a CPU build and fails
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            init_method=f"file://{store}" if store else "env://",
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            timeout=timedelta(minutes=patience),
        )
    try:
        train(settings, job.pop("model_path"), **job)
    except EpicError as error:  # `record` stores its text for the launcher
        raise EpicError(last_line(error)) from error
    if several:
        torch.distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """Exit when the launcher dies: an orphaned rank would write into the next run's folder."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    try:
        main(ast.literal_eval(sys.argv[1]))
    except EpicError:
        sys.exit(1)  # the launcher reports it, once
