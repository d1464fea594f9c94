"""Limits and properties of this process and its machine, with a fallback where systems differ.

Linux has CPU affinity, the sender of a signal and the state of threads. macOS has none of them. All
uses of these go through this module.
"""

import contextlib
import ctypes
import functools
import os
import platform
import resource
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import psutil

# The mounted cgroup of Linux.
CGROUP = Path("/sys/fs/cgroup")
PR_SET_PDEATHSIG = 1  # From <sys/prctl.h> of Linux.


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Return the number of cores that this process may use, by affinity and by its cgroup's quota.

    Schedulers bind a job to its cores (affinity). Containers limit CPU time (quota). The machine's
    core count is used only if the system has neither.

    Args:
        cgroup: The folder in which the cgroup (version 2) of this process is mounted.

    Returns:
        At least 1. A quota of 2.5 cores counts as 2.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
        note(f"this system knows no affinity: {cores} cores are taken to be free")
    # The file holds `quota period` or `max period`: `250000 100000` are 2.5 cores.
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def processor_name() -> str:
    """Return the name of the processor, such as `Intel(R) Xeon(R) Platinum 8360Y CPU @ 2.40GHz`."""
    with contextlib.suppress(OSError):
        # Linux writes `model name : ...` for each core; other systems have no such file.
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def workers_for(cores: int, processes: int) -> int:
    """Return the number of data loader workers for each training or prediction process.

    Together with the process itself, they use its share of the cores.

    Args:
        cores: Cores that all processes on this machine share.
        processes: Training or prediction processes on this machine.
    """
    return max(1, cores // processes - 1)


def expect_random_reads(descriptor: int) -> None:
    """Tell the system not to read ahead in an open file, since it is read at random places."""
    if hasattr(os, "posix_fadvise"):  # On macOS, the system's own guess is good enough.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)


def handle_in_thread(number: int) -> None:
    """Let the present handler of a signal run in a separate thread from now on.

    Snakemake's handler of SIGTERM waits for a lock that the interrupted thread may hold (9.27,
    `JobScheduler.exit_gracefully`; it hung so on 28 November 2026).
    """
    handler = signal.getsignal(number)
    if callable(handler):
        signal.signal(
            number, lambda *words: threading.Thread(target=handler, args=words, daemon=True).start()
        )


def limit_process(limits: Mapping[int, int]) -> None:
    """Set resource limits of this process.

    Hard limits of the system stay, and win if they are lower.

    Args:
        limits: Limits by resource (`resource.RLIMIT_...`).
    """
    for resource_id, limit in limits.items():
        _, hard = resource.getrlimit(resource_id)
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        # The system may reject it: macOS takes no limit on memory.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource_id, (soft, hard))


def wait_for_signal_of(sender: int, number: signal.Signals) -> None:
    """Wait until the process `sender` sends a signal, which the calling thread has blocked.

    If the system does not report who sent a signal, the first one ends the wait.
    """
    if hasattr(signal, "sigwaitinfo"):
        while signal.sigwaitinfo({number}).si_pid != sender:
            pass
    else:
        signal.sigwait({number})


@functools.cache
def note(words: str) -> None:
    """Print a note about this system once per process: a second call does nothing (the cache)."""
    sys.stdout.write(f"note: {words}\n")


def is_asleep(pid: int) -> bool:
    """Whether no thread of a process computes, or waits for a core or a disk; each only sleeps.

    If the system does not tell (macOS), or a thread has just ended, the answer is True.
    """
    try:
        threads = psutil.Process(pid).threads()
        states = {psutil.Process(thread.id).status() for thread in threads}
    except psutil.Error:
        return True
    return states == {psutil.STATUS_SLEEPING}


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent ends.

    macOS cannot: there, the process ends when it next writes to its parent.

    Args:
        parent: The id of the process that started this one. It may have ended already.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def process_space() -> str:
    """Return an id of this boot and of the namespace of process ids, separated by a space.

    The pids of two processes can be compared only if the results in both are equal. Without /proc,
    it is the time of the boot and `-`.
    """
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return f"{psutil.boot_time():.0f} -"
