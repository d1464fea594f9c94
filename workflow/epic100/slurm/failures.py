"""The cause of a failure on Slurm: of a job that ended, or of a request that sbatch refused.

docs/vsc.md has the table of causes.
"""

import re
from enum import Enum

# A job in one of these states ended by the machines' fault. Any other end is the job's own fault.
OF_MACHINES = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL")
# These messages in the log of a job say that it needed more memory than it had.
MEMORY = re.compile(r"exceeded memory limit|oom.?kill|out of memory", re.IGNORECASE)
# Slurm never grants a request with one of these errors (src/common/slurm_errno.c, slurm_opt.c).
NEVER = re.compile(
    r"Invalid (account|qos|partition|feature|generic resource|node name|license|job array|Trackable"
    r"|reservation|wckey|cluster|dependency|--|argument)"
    r"|[iI]nvalid (partition|account|option|number)|unrecognized option|requires an argument"
    r"|Requested (node configuration|time limit|reservation) |Node count specification invalid"
    r"|More processors requested|Memory specification can not|known by database"
    r"|not permitted to use this partition"
)
# These two errors also come if no node is left because of the option `--exclude`.
NO_NODE = "Requested node configuration is not available"
NO_NAME = "Invalid node name"
# It matches AssocGrpSubmitJobsLimit, AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit and
# similar reasons: the queue is full until another job has ended.
NO_PLACE = re.compile(r"\w*SubmitJobs?\w*Limit")


class Fault(Enum):
    """The cause of a failure, with what the run does about it."""

    OWN = "the job's own: it counts as a try"
    MEMORY = "the job's own: its next try asks for more memory, or it ends"
    MACHINES = "the machines': submitted again, counts as no try, away from its node once"
    NEVER = "a request that is never granted: it ends at once"
    LATER = "none of these: sbatch is asked again, until the patience ends"


def fault_of_end(state: str, reason: str) -> Fault:
    """Decide whether a job ended by its own fault, by too little memory, or by the machines' fault.

    Args:
        state: Slurm's state of the job.
        reason: Slurm's messages in the log of the job.
    """
    if state == "OUT_OF_MEMORY" or (state == "FAILED" and MEMORY.search(reason)):
        return Fault.MEMORY
    return Fault.MACHINES if state in OF_MACHINES else Fault.OWN


def fault_of_request(message: str) -> Fault:
    """Decide whether a request that sbatch refused may be granted later, or never.

    Args:
        message: The message of sbatch.
    """
    # A full queue is no fault of the request, even if the same message also has words of `NEVER`.
    queue_is_full = NO_PLACE.search(message)
    return Fault.NEVER if NEVER.search(message) and not queue_is_full else Fault.LATER
