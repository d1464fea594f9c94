"""Start a training on all nodes of a Slurm job, and report why it ended.

The process of the rule runs on the first node. Through srun it starts
`python -m epic100.training.node` once on each node, and this starts the node's processes.
"""

import logging
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterable
from typing import Any

from epic100.base.errors import EpicError, from_last_line
from epic100.training.meeting import free_port, own_address
from epic100.training.stop import forwarding

NODE = "epic100.training.node"
SAVE_SECONDS = 120  # time for the other nodes to finish a step, save and report
# Reasons that may follow from the failure of another node, the likeliest cause first.
FOLLOWS = (r"process \d+ was killed by", r"process \d+ (failed|found)", "^stopped by")

log = logging.getLogger(__name__)


def train_on_nodes(job: dict[str, Any], count: int) -> None:
    """Train on `count` nodes of this Slurm job, one task a node.

    Args:
        job: What `epic100.training.node` takes, without where the nodes meet.
        count: Number of nodes.

    Raises:
        EpicError: This is no Slurm job, or the training failed on a node.
    """
    if "SLURM_JOB_ID" not in os.environ:
        raise EpicError(
            f"train.nodes is {count}, but this is no Slurm job; expected one of {count} nodes, "
            "with `--profile profiles/vsc`; set `train: nodes: 1` to train on this machine"
        )
    address = own_address()
    meeting = {"address": address, "port": free_port(address), "run_id": uuid.uuid4().hex}
    command = ["srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1",
               "--cpu-bind=none", f"--wait={SAVE_SECONDS}", sys.executable, "-u", "-P", "-m", NODE,
               repr({**job, **meeting, "nodes": count})]  # fmt: skip
    log.info(f"training on {count} nodes, which meet at {address}:{meeting['port']}")
    errors: list[EpicError] = []
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        ) as step,
        forwarding(step.send_signal),
    ):  # fmt: skip
        for line in step.stdout or ():
            if error := from_last_line(line.rstrip("\n")):
                errors.append(error)
            else:
                sys.stdout.write(line)
    if errors:
        raise cause_of(errors)
    if step.returncode:
        raise EpicError(
            f"training ended, because srun ended with exit code {step.returncode} (its reason "
            "stands above); the same command goes on from the last checkpoint"
        )


def cause_of(errors: Iterable[EpicError]) -> EpicError:
    """The error that most likely caused the others, which came from other nodes."""

    def rank(error: EpicError) -> int:
        found = (n for n, words in enumerate(FOLLOWS, start=1) if re.search(words, str(error)))
        return next(found, 0)

    return min(errors, key=rank)
