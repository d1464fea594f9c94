import os
import signal
import subprocess
import time

import pytest
from torch.utils.data import DataLoader

from epic100.training.stop import SIGNALS, StopSignals, end_workers, shelter_workers
from support.small_runs import end_of, processes


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_while_entered_and_means_what_it_did_before_afterwards(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    signals = StopSignals()
    with signals.noting():
        assert signals.requested is None
        os.kill(os.getpid(), number)
        assert signals.requested == signal.Signals(number).name
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.requested == signal.Signals(number).name  # the first one
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals().noting():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_workers_outlive_signals_of_others_and_end_at_their_parents():
    # In a process of its own, as a rule's is: threads that other tests left here take signals too.
    process = processes.Process(target=workers_outlive_signals)
    process.start()
    assert end_of(process) == 0


def workers_outlive_signals() -> None:
    loader = DataLoader(range(40), num_workers=2, persistent_workers=True,
                        worker_init_fn=[].append, multiprocessing_context="fork")  # fmt: skip
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
