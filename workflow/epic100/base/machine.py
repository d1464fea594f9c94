"""What this process may use of its machine, with a fallback and a note where systems differ.

Linux has CPU affinity, limits on other processes and the sender of a signal. macOS has none of the
three. All uses of them go through this module.
"""

import contextlib
import functools
import math
import os
import resource
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Number of cores that this process was given, by affinity and by the quota of its cgroup.

    Slurm binds a job to its cores (affinity). Containers limit CPU time (quota). The machine's core
    count is used only if the system has neither.

    Args:
        cgroup: Where the cgroup (version 2) of this process is mounted.

    Returns:
        At least 1. A quota of 2.5 cores counts as 2.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
        note(f"this system knows no affinity: {cores} cores are taken to be free")
    return max(1, math.floor(min(cores, _quota(cgroup))))


def workers_for(cores: int, processes: int) -> int:
    """Number of loader processes that use all cores of a process except the one it computes on.

    Args:
        cores: Cores that all processes on this machine share.
        processes: Training or prediction processes on this machine.
    """
    return max(1, cores // processes - 1)


def expect_random_reads(descriptor: int) -> None:
    """Tell the system that a file is read at random places, so that it reads nothing ahead."""
    if hasattr(os, "posix_fadvise"):  # macOS has none; its own guess is good enough
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)


def _quota(cgroup: Path) -> float:
    """CPU quota of the cgroup in cores; `cpu.max` is `quota period` or `max period`."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def limit_process(pid: int, wanted: Mapping[int, int]) -> None:
    """Set resource limits of another process of this user. Lower hard limits of the system win.

    Args:
        pid: The process. It may have ended already, or its pid may belong to another user by now.
        wanted: Limits by kind (`resource.RLIMIT_...`).
    """
    if not hasattr(resource, "prlimit"):
        note("this system sets no limits on other processes: decoders may take any memory")
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for kind, value in wanted.items():
            _, hard = resource.prlimit(pid, kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, kind, (value, value))


def wait_for_signal_of(sender: int, number: signal.Signals) -> None:
    """Wait until `sender` sends this signal, which the calling thread has blocked.

    If the system does not report who sent a signal, the first one ends the wait.
    """
    if not hasattr(signal, "sigwaitinfo"):
        signal.sigwait({number})
        return
    while signal.sigwaitinfo({number}).si_pid != sender:
        pass


@functools.cache
def note(words: str, tell: Callable[[str], None] = print) -> None:
    """Report a fact about this system, once per process."""
    tell(f"note: {words}")
