"""Where processes of a training meet: at no port beyond the machine itself, in no open folder.

tests/training/test_launch.py looks at the ports of whole trainings.
"""

import stat
from pathlib import Path

import psutil
import pytest
from torch.distributed.elastic.rendezvous.api import RendezvousParameters
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from epic100.training.launch import private_folder
from epic100.training.meeting import Nodes, free_port, meet_at, meet_in

pytestmark = pytest.mark.slow


def listening(process: psutil.Process) -> set:
    """Addresses that a process listens on."""
    return {c.laddr for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}


def meeting_of(config: dict) -> RendezvousParameters:
    return RendezvousParameters(
        config["rdzv_backend"], config["rdzv_endpoint"], "run", 1, 1, **config["rdzv_configs"]
    )


def test_the_ranks_meet_in_a_folder_that_others_may_not_enter():
    with private_folder("/dev/shm") as meeting:
        assert stat.S_IMODE(Path(meeting).stat().st_mode) == 0o700
        config, before = meet_in(meeting), listening(psutil.Process())
        _, store = create_backend(meeting_of(config))
        assert listening(psutil.Process()) == before, "the rendezvous opened a port"
        store.set("a", "b")
        assert Path(config["rdzv_endpoint"]).parent == Path(meeting)
    assert not Path(meeting).exists()


def test_several_nodes_meet_at_one_address_of_the_first_alone():
    """Torch's own static rendezvous listens on all of its addresses."""
    port = free_port("127.0.0.1")
    config = meet_at(Nodes(count=1, address="127.0.0.1", port=port, run_id="run"), rank=0)
    handler = get_rendezvous_handler(meeting_of(config))
    store = handler.next_rendezvous().store
    assert {ip for ip, used in listening(psutil.Process()) if used == port} == {"127.0.0.1"}
    store.set("a", "b")
    assert handler.use_agent_store  # so the ranks open no port for another one


@pytest.mark.parametrize("parent", [None, "/no/such/folder"])
def test_without_a_folder_in_memory_the_temporary_one_serves(parent):
    with private_folder(parent) as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
