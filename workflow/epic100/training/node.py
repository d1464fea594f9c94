"""One node of a training over several: srun starts it with a job as a Python literal.

srun --ntasks-per-node=1 ... python -m epic100.training.node "{'settings': {...}, ...}"
"""

import ast
import logging
import os
import signal
import socket
import sys

# Until the launcher forwards it, a request to save must not kill the starting process.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

from epic100.base.errors import EpicError  # noqa: E402
from epic100.base.gpu import look_for_gpus  # noqa: E402
from epic100.base.log import log_to_stdout  # noqa: E402
from epic100.settings import TrainSettings  # noqa: E402
from epic100.training.device import choose_device  # noqa: E402
from epic100.training.launch import start_processes  # noqa: E402
from epic100.training.meeting import Nodes  # noqa: E402

log = logging.getLogger(__name__)


def main(job: dict) -> None:
    """Start this node's processes and wait for them.

    Args:
        job: Keyword arguments of `rank.main`, plus `asked` (GPUs that the rule requests), `host`
            (of the first node), and the fields of `Nodes` except the rank, which is Slurm's.

    Raises:
        EpicError: Torch cannot use the node's GPUs, or a process failed.
    """
    nodes = Nodes(job.pop("nodes"), int(os.environ["SLURM_PROCID"]), job.pop("address"),
                  job.pop("port"), job.pop("run_id"))  # fmt: skip
    host, here = job.pop("host"), socket.gethostname()
    if host != here and nodes.address.startswith("127."):
        raise EpicError(
            f"the name of the first node, {host}, is {nodes.address} there, where {here} cannot "
            "reach it; set GLOO_SOCKET_IFNAME to the interface of the network between the nodes"
        )
    settings = TrainSettings.model_validate(job["settings"])
    found = look_for_gpus(job.pop("asked"))
    placement = choose_device(settings.device, settings.gpus, found, nodes.count)
    start_processes(job, placement, found, nodes)


if __name__ == "__main__":
    log_to_stdout()
    try:
        main(ast.literal_eval(sys.argv[1]))
    except EpicError as error:
        log.error(str(error))  # the launcher on the first node reports it, once
        sys.exit(1)
