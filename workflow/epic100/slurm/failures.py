"""What a failure on Slurm means: one table, for jobs that ended and for requests that did not pass.

docs/vsc.md has the table.
"""

import re
from enum import Enum

# A job in one of these states ended by the machines' fault. Every other end is the job's own.
OF_MACHINES = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL")
MEMORY = re.compile(r"exceeded memory limit|oom.?kill|out of memory", re.IGNORECASE)
# Slurm says this of a request that it will never grant (src/common/slurm_errno.c, slurm_opt.c).
NEVER = re.compile(
    r"Invalid (account|qos|partition|feature|generic resource|node name|license|job array|Trackable"
    r"|reservation|wckey|cluster|dependency|--|argument)"
    r"|[iI]nvalid (partition|account|option|number)|unrecognized option|requires an argument"
    r"|Requested (node configuration|time limit|reservation) |Node count specification invalid"
    r"|More processors requested|Memory specification can not|known by database"
    r"|not permitted to use this partition"
)
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


def of_end(state: str, reason: str) -> Fault:
    """Decide whether a job ended by its own fault, for lack of memory, or by the machines' fault.

    Args:
        state: Slurm's state of the job.
        reason: Slurm's messages in the log of the job.
    """
    if state == "OUT_OF_MEMORY" or (state == "FAILED" and MEMORY.search(reason)):
        return Fault.MEMORY
    return Fault.MACHINES if state in OF_MACHINES else Fault.OWN


def of_request(words: str) -> Fault:
    """Decide whether a request that sbatch refused may pass later, or never.

    Args:
        words: The message of sbatch.
    """
    queue_is_full = NO_PLACE.search(words)
    return Fault.NEVER if NEVER.search(words) and not queue_is_full else Fault.LATER
