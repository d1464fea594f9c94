import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from epic100.training.stop import SIGNALS, StopSignals, end_workers, shelter_workers


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_while_entered_and_means_what_it_did_before_afterwards(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with StopSignals() as signals:
        assert signals.requested is None
        os.kill(os.getpid(), number)
        assert signals.requested == signal.Signals(number).name
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.requested == signal.Signals(number).name  # the first one
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_workers_outlive_signals_of_others_and_end_at_their_parents():
    # In a process of its own, as a rule's is: threads that other tests left here take signals too.
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_stop; test_stop.workers_outlive_signals()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def workers_outlive_signals() -> None:
    seen = []
    loader = DataLoader(
        range(40), num_workers=2, persistent_workers=True, worker_init_fn=seen.append
    )
    shelter_workers(loader)
    batches = iter(loader)
    first = [next(batches) for _ in range(2)]  # one of each: both are up
    workers = [worker.pid for worker in batches._workers]
    for number in SIGNALS:  # from another process, as those of a terminal or of Slurm
        subprocess.run(["kill", f"-{int(number)}", *map(str, workers)], check=True)
    time.sleep(0.2)
    assert len([*first, *batches]) == 40
    assert all(worker.is_alive() for worker in batches._workers)
    victim = batches._workers[0]
    victim.terminate()
    victim.join(5)
    assert victim.exitcode == 0
    del batches
    started = time.monotonic()
    end_workers(loader)
    assert loader._iterator is None and time.monotonic() - started < 60
