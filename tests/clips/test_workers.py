import os
import signal
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from epic100.base.errors import EpicError
from epic100.clips.faults import ended_workers_are_errors

pytestmark = pytest.mark.slow


class Killed(Dataset):
    """Its worker is killed at the second item."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        if place == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return place


@pytest.mark.parametrize("at_work", [False, True], ids=["waiting", "in the middle of a step"])
def test_a_killed_worker_is_one_line_that_says_what_to_do(at_work):
    with (
        pytest.raises(EpicError, match=r"ended from outside: .*DataLoader worker \(pid.*; give "),
        ended_workers_are_errors(),
    ):
        for _ in DataLoader(Killed(), num_workers=1):
            time.sleep(3 * at_work)  # torch's signal handler may raise here


def test_another_error_of_torch_is_no_killed_worker():
    with pytest.raises(RuntimeError, match="shape"), ended_workers_are_errors():
        raise RuntimeError("shape '[2]' is invalid")
