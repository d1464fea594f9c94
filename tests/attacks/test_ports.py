"""Where processes of a training meet: at no port beyond the machine itself, in no open folder.

tests/training/test_launch.py looks at the ports of whole trainings.
"""

import socket
import stat
from pathlib import Path

import psutil
import pytest
from torch.distributed.elastic.rendezvous.api import RendezvousParameters
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from epic100.base.errors import EpicError
from epic100.training import meeting
from epic100.training.launch import private_folder
from epic100.training.meeting import Nodes, meet_at, meet_in

pytestmark = pytest.mark.slow


def listening(process: psutil.Process) -> set:
    """Addresses that a process listens on."""
    return {c.laddr for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}


def meeting_of(config: dict, nodes: int = 1) -> RendezvousParameters:
    place = config["rdzv_backend"], config["rdzv_endpoint"]
    return RendezvousParameters(*place, "run", nodes, nodes, **config["rdzv_configs"])


def test_the_ranks_meet_in_a_folder_that_others_may_not_enter():
    with private_folder("/dev/shm") as meeting:
        assert stat.S_IMODE(Path(meeting).stat().st_mode) == 0o700
        config, before = meet_in(meeting), listening(psutil.Process())
        _, store = create_backend(meeting_of(config))
        assert listening(psutil.Process()) == before, "the rendezvous opened a port"
        store.set("a", "b")
        assert Path(config["rdzv_endpoint"]).parent == Path(meeting)
    assert not Path(meeting).exists()


def test_a_port_in_use_and_a_node_that_does_not_come_are_one_error(monkeypatch):
    monkeypatch.setattr(meeting, "WAIT_SECONDS", 2)
    words = "node 0 of 2 cannot use 127.0.0.1:{}, where the nodes of this training meet"
    for used in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            if not used:
                other.close()
            config = meet_at(Nodes(2, "127.0.0.1", port, "run"), rank=0)
            handler = get_rendezvous_handler(meeting_of(config, nodes=2))
            with pytest.raises(EpicError, match=words.format(port)):
                handler.next_rendezvous()


@pytest.mark.parametrize("parent", [None, "/no/such/folder"])
def test_without_a_folder_in_memory_the_temporary_one_serves(parent):
    with private_folder(parent) as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
