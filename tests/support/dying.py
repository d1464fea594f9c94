"""Kill a process in the middle of a prediction. No test is here."""

import os
import signal
from collections.abc import Callable

from epic100.prediction.shards import Shards
from support.this_process import fork


def kill_after_a_shard(work: Callable, *arguments, **keywords) -> None:
    """Call `work` in a process that is killed as soon as it has written one shard."""
    process = fork.Process(target=_call, args=(work, arguments, keywords))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _call(work: Callable, arguments: tuple, keywords: dict) -> None:
    """Call `work` in this process, and kill it after its first shard."""
    write = Shards.write

    def write_and_die(*shard) -> None:
        write(*shard)
        os.kill(os.getpid(), signal.SIGKILL)

    Shards.write = write_and_die
    work(*arguments, **keywords)
