"""What this process may use of its machine, with a fallback and a note where systems differ.

Linux has CPU affinity, the sender of a signal and the state of threads. macOS has none of them. All
uses of these go through this module.
"""

import contextlib
import functools
import math
import os
import platform
import re
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
CPU = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Number of cores that this process was given, by affinity and by the quota of its cgroup.

    Schedulers bind a job to its cores (affinity). Containers limit CPU time (quota). The machine's
    core count is used only if the system has neither.

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


def driver_version(path: Path = DRIVER) -> str | None:
    """Version of NVIDIA's kernel driver, such as 550.54.15; None if there is none.

    Args:
        path: The file in which the driver describes itself.
    """
    with contextlib.suppress(OSError):
        match = re.search(r"\s(\d{3,}(\.\d+)+)\s", path.read_text(errors="replace"))
        return match[1] if match else None
    return None


def cpu_name() -> str:
    """Model of the CPU, or its architecture where the system does not name it."""
    with contextlib.suppress(OSError):
        if match := re.search(r"^model name\s*: (.*)$", CPU.read_text(), re.M):
            return match[1].strip()
    return platform.processor() or platform.machine()


def expect_random_reads(descriptor: int) -> None:
    """Tell the system that a file is read at random places, so that it reads nothing ahead."""
    if hasattr(os, "posix_fadvise"):  # On macOS, the system's own guess is good enough.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)


def _quota(cgroup: Path) -> float:
    """CPU quota of the cgroup in cores; `cpu.max` is `quota period` or `max period`."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


@contextlib.contextmanager
def memory_for(count: int) -> Iterator[None]:
    """Let this process take so many bytes more at most while a block runs; none counts on macOS."""
    old_limits = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + count
    if old_limits[0] == resource.RLIM_INFINITY or most < old_limits[0]:
        limit_process({resource.RLIMIT_AS: most})
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, old_limits)


def limit_process(wanted: Mapping[int, int]) -> None:
    """Set resource limits of this process.

    Hard limits of the system stay, and win if they are lower.

    Args:
        wanted: Limits by kind (`resource.RLIMIT_...`).
    """
    for limit, value in wanted.items():
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # The system may refuse: macOS takes no limit on memory.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, hard))


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


def thread_states(pid: int) -> tuple[Set[str], float]:
    """Return what the threads of a process do, as psutil names it, and the seconds they computed.

    They sleep where the system does not say it (macOS), and if one has just ended.
    """
    try:
        threads = psutil.Process(pid).threads()
        states = {psutil.Process(thread.id).status() for thread in threads}
    except psutil.Error:
        return {psutil.STATUS_SLEEPING}, 0.0
    return states, sum(thread.user_time + thread.system_time for thread in threads)


def process_space() -> str:
    """The boot of this machine and the namespace in which process ids mean something: two words."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return f"{psutil.boot_time():.0f} -"
