"""Kill a process in the middle of a prediction. No test is here."""

import os
import signal
from collections.abc import Callable
from unittest import mock

from epic100.prediction.shards import Shards
from support.this_process import fork


def kill_after_a_shard(work: Callable, *arguments, **keywords) -> None:
    """Call `work` in a process that is killed as soon as it has written one shard."""
    write = Shards.write

    def write_and_die(*shard) -> None:
        write(*shard)
        os.kill(os.getpid(), signal.SIGKILL)

    process = fork.Process(target=work, args=arguments, kwargs=keywords)
    with mock.patch.object(Shards, "write", write_and_die):
        process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
