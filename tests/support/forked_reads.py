"""Guarded calls in forks of this process, which has torch already. No test is here.

A process of a guarded call imports torch for 1.3 s of CPU, and tests read 500 tensor files, and as
many that are changed at random. A fork calls the same functions with the same limits. It is safe
although torch is imported: with one thread it has started no others.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from epic100.base import guarded

_started = guarded._started


@contextmanager
def forked_reads() -> Iterator[None]:
    """Make guarded calls in forks during a block."""
    with mock.patch.object(guarded, "_started", _started_by_fork):
        yield


def _started_by_fork(
    order: guarded.Order, far_end: int, memory_mib: int
) -> subprocess.Popen[bytes]:
    """Start the process of a call as `guarded._started` does."""
    # A limit on the address space is for a process that has imported less.
    if memory_mib:
        return _started(order, far_end, memory_mib)
    caller = os.getpid()

    def serve():
        sys.stdin = os.fdopen(0)
        sys.argv = ["", str(far_end), str(caller), "0"]
        guarded._in_a_call = True
        guarded.serve()

    with open(far_end, "wb"), tempfile.TemporaryFile() as file:
        file.write(pickle.dumps(order))
        file.seek(0)
        # `serve` ends the process, so that the command is never called.
        return subprocess.Popen(
            ["false"],
            stdin=file,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=serve,
        )
