"""Where processes of a training meet: at no port beyond the machine itself, in no open folder.

tests/training/test_launch.py looks at the ports of whole trainings.
"""

import socket
import stat
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.base.ranks import private_folder
from epic100.training import launch
from epic100.training.launch import Nodes, open_store

pytestmark = pytest.mark.slow


def test_a_port_in_use_and_a_node_that_does_not_come_are_one_error(monkeypatch):
    monkeypatch.setattr(launch, "WAIT_SECONDS", 2)
    words = "process 0 of 2 cannot use 127.0.0.1:{}, where the nodes of this training meet"
    for used in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            if not used:
                other.close()
            with pytest.raises(EpicError, match=words.format(port)):
                open_store(Nodes("127.0.0.1", port, "run"), rank=0, processes=2)


@pytest.mark.parametrize("parent", ["/dev/shm", None, "/no/such/folder"])
def test_the_ranks_of_a_node_meet_in_a_folder_that_others_may_not_enter(parent):
    with private_folder(parent) as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        assert (Path(folder).parent == Path(parent or "")) is (parent == "/dev/shm")
    assert not Path(folder).exists()
